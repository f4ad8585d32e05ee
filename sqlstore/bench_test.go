package sqlstore_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/sqlstore"
)

// BenchmarkRotate measures the two statements of a renewal, one after the other
// and by many clients at once, each with a session of its own.
func BenchmarkRotate(b *testing.B) {
	for _, backend := range backends {
		for _, clients := range []int{2, 16} {
			b.Run(fmt.Sprintf("%s/clients=%d", backend.name, clients), func(b *testing.B) {
				d := backend.empty(b)
				db := d.open(b)
				db.SetMaxOpenConns(16)
				db.SetMaxIdleConns(16)
				d.migrate(b, db)
				benchmarkRotate(b, d.tokenStore(b, db), clients)
			})
		}
	}
}

func benchmarkRotate(b *testing.B, store *sqlstore.TokenStore, clients int) {
	ctx := b.Context()
	sessions := make([]renew.Session, max(clients, runtime.GOMAXPROCS(0)))
	for i := range sessions {
		sessions[i] = newSession(fmt.Sprintf("session-%d", i))
		if err := store.CreateSession(ctx, sessions[i]); err != nil {
			b.Fatal(err)
		}
	}
	var last, longest atomic.Int64
	b.SetParallelism(max(1, clients/runtime.GOMAXPROCS(0)))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		i := last.Add(1) - 1
		for pb.Next() {
			began := time.Now()
			s, err := store.Session(ctx, testApp, sessions[i].ID)
			if err == nil {
				err = store.Rotate(ctx, s.TokenID, successor(s))
			}
			if err != nil {
				b.Error(err)
				return
			}
			if took := int64(time.Since(began)); took > longest.Load() {
				longest.Store(took)
			}
		}
	})
	b.ReportMetric(float64(longest.Load())/1e6, "longest-ms")
}
