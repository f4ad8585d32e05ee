package memstore

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/jwtrenew/renew"
)

// typical returns the session of a browser: what a login stores.
func typical(random *rand.Rand) renew.Session {
	newID := func() string {
		var id ulid.ULID
		for i := range id {
			id[i] = byte(random.Uint32())
		}
		id[0] &= 0x7f
		return id.String()
	}
	return renew.Session{
		AppID:              appID,
		ID:                 newID(),
		Subject:            fmt.Sprintf("%032x", random.Uint64()),
		Audience:           []string{"https://api.example"},
		Claims:             json.RawMessage(`{"roles":["reader","writer"],"tenant":"example","name":"Ann Example"}`),
		CreatedAt:          start,
		EndsAt:             start.AddDate(0, 1, 0),
		Generation:         7,
		TokenID:            newID(),
		PreviousTokenID:    newID(),
		IssuedAt:           start,
		RefreshNotBefore:   start,
		RefreshExpiresAt:   start.Add(within(random, 3*time.Hour)),
		IdempotencyKeyHash: make([]byte, 32),
		IP:                 "192.0.2.100",
		UserAgent:          "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
	}
}

// full returns a store with that many sessions, and the names of a thousand.
func full(b *testing.B, sessions int) (*Store, []sessionKey) {
	random := rand.New(rand.NewPCG(1, 2))
	s := New()
	var some []sessionKey
	for i := range sessions {
		one := typical(random)
		if err := s.CreateSession(b.Context(), one); err != nil {
			b.Fatal(err)
		}
		if i%(sessions/1000) == 0 {
			some = append(some, sessionKey{one.AppID, one.ID})
		}
	}
	runtime.GC()
	return s, some
}

// BenchmarkRenewal is the store's part in a renewal: one Session, one Rotate.
func BenchmarkRenewal(b *testing.B) {
	for _, sessions := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
			s, some := full(b, sessions)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				current, err := s.Session(b.Context(), some[i%len(some)].appID, some[i%len(some)].id)
				if err != nil {
					b.Fatal(err)
				}
				next := current
				next.Generation++
				next.TokenID, next.PreviousTokenID = current.PreviousTokenID, current.TokenID
				next.RefreshExpiresAt = current.RefreshExpiresAt.Add(time.Minute)
				if err := s.Rotate(b.Context(), current.TokenID, next); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRenewalParallel is BenchmarkRenewal on all processors, each with
// its own sessions.
func BenchmarkRenewalParallel(b *testing.B) {
	s, some := full(b, 100_000)
	next := make(chan sessionKey, len(some))
	for _, key := range some {
		next <- key
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		key := <-next
		for pb.Next() {
			current, err := s.Session(b.Context(), key.appID, key.id)
			if err == nil {
				err = s.Rotate(b.Context(), current.TokenID, current)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkMemory reports the heap that one session takes, with its share of
// every map and queue.
func BenchmarkMemory(b *testing.B) {
	const sessions = 200_000
	for b.Loop() {
		before := heapInUse()
		s, _ := full(b, sessions)
		b.ReportMetric(float64(heapInUse()-before)/sessions, "bytes/session")
		runtime.KeepAlive(s)
	}
}

// BenchmarkDeleteExpired is one session's deletion, of a hundred thousand.
func BenchmarkDeleteExpired(b *testing.B) {
	const sessions = 100_000
	for range b.N {
		b.StopTimer()
		s, _ := full(b, sessions)
		b.StartTimer()
		if n, err := s.DeleteExpired(b.Context(), start.AddDate(1, 0, 0), sessions); n != sessions || err != nil {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*sessions), "ns/session")
}
