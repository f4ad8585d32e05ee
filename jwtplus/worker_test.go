package jwtplus_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"github.com/jwtrenew/renew/jwtplus"
	"github.com/jwtrenew/renew/sqlstore"
)

// workerVariable names the environment variable that makes the test binary a
// worker: a process that a test may kill.
const workerVariable = "RENEW_JWTPLUS_WORKER"

// What a worker needs to know, in its environment.
const (
	workerSource = "RENEW_JWTPLUS_WORKER_SOURCE"
	workerTarget = "RENEW_JWTPLUS_WORKER_TARGET" // an SQLite file
	workerBatch  = "RENEW_JWTPLUS_WORKER_BATCH"  // rows; 0: the default
)

var workers = map[string]func() int{"import": importWorker}

// workerReport is a line of a worker: after each batch, and at the end.
type workerReport struct {
	Done   bool
	Heap   uint64 // bytes of live objects; 0: not measured
	Report jwtplus.Report
}

// importWorker imports one database into another, and writes how far it is to its
// standard output.
func importWorker() int {
	if err := importInWorker(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 1
	}
	return 0
}

func importInWorker(ctx context.Context) error {
	source, err := sql.Open("mysql", os.Getenv(workerSource))
	if err != nil {
		return err
	}
	target, err := sql.Open("sqlite", sqliteDSN(os.Getenv(workerTarget)))
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(os.Getenv(workerBatch))
	if err != nil {
		return err
	}
	s, err := sqlStores(ctx, target, sqlstore.SQLite)
	if err != nil {
		return err
	}
	output := json.NewEncoder(os.Stdout)
	var failed error
	batches := 0
	report, err := jwtplus.Import(ctx, jwtplus.NewSource(source), s.keys, s.tokens, jwtplus.Options{
		Now: atFixtureClock, BatchSize: size,
		Progress: func(p jwtplus.Progress) {
			line := workerReport{Report: p.Report}
			if batches++; batches%20 == 0 {
				line.Heap = liveHeap()
			}
			if err := output.Encode(line); err != nil {
				failed = err
			}
		},
	})
	if err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	return output.Encode(workerReport{Done: true, Heap: liveHeap(), Report: *report})
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
