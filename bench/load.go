//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"sync"
	"time"
)

// loadConfig makes a child a client: so many connections that renew over HTTP,
// one session each, one request after the other, for so long.
type loadConfig struct {
	URL, Path, AppKey string
	Connections       int
	For               time.Duration
}

// loadResult is what a client did.
type loadResult struct {
	Renewals int
	Took     time.Duration
	Latency  []float64 // nanoseconds
}

// run renews, and prints the result.
func (c loadConfig) run(ctx context.Context) error {
	server := &child{url: c.URL, appKey: c.AppKey}
	sessions := make([]renewal, c.Connections)
	for i := range sessions {
		var err error
		if sessions[i], err = server.loginAt(ctx, c.Path); err != nil {
			return err
		}
		if err := sessions[i](ctx); err != nil { // connects
			return err
		}
	}
	result, err := renewFor(ctx, sessions, c.For)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// renewFor renews each session for so long, all of them concurrently.
func renewFor(ctx context.Context, sessions []renewal, d time.Duration) (loadResult, error) {
	var all sync.WaitGroup
	latencies := make([][]float64, len(sessions))
	errs := make([]error, len(sessions))
	began := time.Now()
	for i, session := range sessions {
		all.Go(func() {
			for errs[i] == nil && time.Since(began) < d {
				sent := time.Now()
				errs[i] = session(ctx)
				latencies[i] = append(latencies[i], float64(time.Since(sent)))
			}
		})
	}
	all.Wait()
	result := loadResult{Took: time.Since(began), Latency: slices.Concat(latencies...)}
	result.Renewals = len(result.Latency)
	return result, errors.Join(errs...)
}

// runLoad has a client renew in its own process, on one core.
func runLoad(ctx context.Context, c loadConfig) (result loadResult, err error) {
	cmd, err := childCommand(ctx, childConfig{Load: &c}, oneCore)
	if err != nil {
		return loadResult{}, err
	}
	output, err := cmd.Output()
	if err != nil {
		return loadResult{}, err
	}
	err = json.Unmarshal(output, &result)
	return result, err
}
