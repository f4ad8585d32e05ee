//go:build unix

package main

import (
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// renewal is one renewal of a session: it spends what the one before was given.
type renewal func(ctx context.Context) error

// system is something that renews sessions, or does a part of it.
type system struct {
	name  string
	login func(ctx context.Context) (renewal, error)
	usage func(ctx context.Context) (usage, error) // nil: of this process
	stop  func()                                   // nil: nothing to stop
}

func (s system) close() {
	if s.stop != nil {
		s.stop()
	}
}

// usage is what a process has used since it started.
type usage struct {
	CPU    time.Duration // user and system, all threads, the garbage collector's too
	Allocs uint64
	Bytes  uint64
}

func ownUsage(context.Context) (usage, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return usage{}, err
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{time.Duration(r.Utime.Nano() + r.Stime.Nano()), m.Mallocs, m.TotalAlloc}, nil
}

// sample is what one block of renewals took, each.
type sample struct {
	wall, cpu     float64 // nanoseconds
	allocs, bytes float64
}

func byWall(s sample) float64   { return s.wall }
func byCPU(s sample) float64    { return s.cpu }
func byAllocs(s sample) float64 { return s.allocs }
func byBytes(s sample) float64  { return s.bytes }

// contender is a system in a series of measurements, with so many sessions that
// are renewed concurrently.
type contender struct {
	system
	sessions []renewal
	each     int // renewals of each session in a block
	samples  []sample
}

// newContender logs in and finds out how many renewals fill a block.
func newContender(ctx context.Context, s system, renewers int, block time.Duration) (*contender, error) {
	if s.usage == nil {
		s.usage = ownUsage
	}
	c := &contender{system: s, each: 1}
	for range renewers {
		session, err := s.login(ctx)
		if err != nil {
			return nil, err
		}
		c.sessions = append(c.sessions, session)
	}
	// The quickest of three tells: a busy machine makes any one slow.
	for {
		quickest := time.Duration(math.MaxInt64)
		for range 3 {
			began := time.Now()
			if err := c.renew(ctx); err != nil {
				return nil, err
			}
			quickest = min(quickest, time.Since(began))
		}
		if quickest >= block/2 {
			return c, nil
		}
		c.each *= 2
	}
}

// run renews for one block and keeps what it took. It begins with no garbage of
// others, and is long enough to pay for its own.
func (c *contender) run(ctx context.Context) error {
	runtime.GC()
	before, err := c.usage(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := c.renew(ctx); err != nil {
		return err
	}
	wall := time.Since(began)
	after, err := c.usage(ctx)
	if err != nil {
		return err
	}
	n := float64(c.each * len(c.sessions))
	c.samples = append(c.samples, sample{
		wall:   float64(wall) / n,
		cpu:    float64(after.CPU-before.CPU) / n,
		allocs: float64(after.Allocs-before.Allocs) / n,
		bytes:  float64(after.Bytes-before.Bytes) / n,
	})
	return nil
}

// renew renews each session so many times, all sessions concurrently.
func (c *contender) renew(ctx context.Context) error {
	if len(c.sessions) == 1 {
		return repeat(ctx, c.sessions[0], c.each)
	}
	errs := make([]error, len(c.sessions))
	var all sync.WaitGroup
	for i, session := range c.sessions {
		all.Go(func() { errs[i] = repeat(ctx, session, c.each) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func repeat(ctx context.Context, f renewal, n int) error {
	for range n {
		if err := f(ctx); err != nil {
			return err
		}
	}
	return nil
}

// interleave has the contenders take turns, so that a busy machine hits all
// alike. Each round begins with another one.
func interleave(ctx context.Context, rounds int, contenders ...*contender) error {
	for round := range rounds {
		for i := range contenders {
			if err := contenders[(round+i)%len(contenders)].run(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// median is of what a contender's blocks took.
func (c *contender) median(of func(sample) float64) float64 {
	values := make([]float64, len(c.samples))
	for i, s := range c.samples {
		values[i] = of(s)
	}
	return median(values)
}

// ratio is the median of the ratios to another contender, round by round.
func (c *contender) ratio(base *contender, of func(sample) float64) float64 {
	values := make([]float64, len(c.samples))
	for i, s := range c.samples {
		values[i] = of(s) / of(base.samples[i])
	}
	return median(values)
}

func median(values []float64) float64 { return percentile(values, 50) }

// percentile is the value that so many of a hundred do not exceed.
func percentile(values []float64, of int) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, len(sorted)*of/100)]
}
