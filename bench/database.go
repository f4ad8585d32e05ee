//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jwtrenew/renew/internal/dbtest"
	"github.com/jwtrenew/renew/sqlstore"
)

// databases are private servers, started where they are installed.
type databases struct {
	host    *host
	servers map[string]*dbtest.Server // by storeKind.Name
	missing []string                  // why some are not there
	redis   bool                      // whether it is installed
	files   int
}

func startDatabases(ctx context.Context) (*databases, error) {
	h := &host{ctx: ctx}
	d := &databases{host: h, servers: map[string]*dbtest.Server{}}
	for _, start := range []struct {
		name  string
		start func(testing.TB) *dbtest.Server
	}{{inPostgreSQL.Name, dbtest.PrivatePostgreSQL}, {inMariaDB.Name, dbtest.PrivateMariaDB}} {
		var server *dbtest.Server
		skipped, err := h.try(func() { server = start.start(h) })
		switch {
		case err != nil:
			d.stop()
			return nil, err
		case skipped != "":
			d.missing = append(d.missing, skipped)
		default:
			d.servers[start.name] = server
		}
	}
	skipped, err := h.try(func() { startRedisServer(h) })
	if err != nil {
		d.stop()
		return nil, err
	}
	d.redis = skipped == ""
	if !d.redis {
		d.missing = append(d.missing, skipped)
	}
	return d, nil
}

func (d *databases) stop() { d.host.cleanUp() }

// has reports whether sessions can be kept there.
func (d *databases) has(kind storeKind) bool {
	switch {
	case kind.Driver == redisDriver:
		return d.redis
	case kind.Driver == "" || kind.Dialect == sqlstore.SQLite:
		return true
	}
	return d.servers[kind.Name] != nil
}

// empty returns the data source name of an empty database.
func (d *databases) empty(kind storeKind) (dsn string, err error) {
	switch {
	case kind.Driver == "":
		return "", nil
	case kind.Driver == redisDriver:
		_, err = d.host.try(func() { dsn = startRedis(d.host, kind) })
		return dsn, err
	case kind.Dialect == sqlstore.SQLite:
		d.files++
		file := filepath.Join(d.host.dir(), fmt.Sprintf("renew-%d.db", d.files))
		return "file:" + file + "?_pragma=busy_timeout(5000)", nil
	}
	server := d.servers[kind.Name]
	_, err = d.host.try(func() { dsn = server.DSN(server.NewDatabase(d.host)) })
	return dsn, err
}

// open returns this library on an empty database.
func (d *databases) open(ctx context.Context, kind storeKind) (*backend, error) {
	dsn, err := d.empty(kind)
	if err != nil {
		return nil, err
	}
	return openBackend(ctx, kind, dsn)
}

// host stands in for a test, which is what dbtest starts servers for.
type host struct {
	testing.TB // nil: dbtest calls only what is below
	ctx        context.Context
	tempDir    string
	cleanups   []func()
}

type (
	failed  string
	skipped string
)

func (h *host) Helper()                  {}
func (h *host) Name() string             { return "bench" }
func (h *host) Context() context.Context { return h.ctx }
func (h *host) TempDir() string          { return h.dir() }
func (h *host) Log(...any)               {}
func (h *host) Logf(string, ...any)      {}

func (h *host) Cleanup(f func())  { h.cleanups = append(h.cleanups, f) }
func (h *host) Fatal(args ...any) { panic(failed(fmt.Sprint(args...))) }
func (h *host) Skip(args ...any)  { panic(skipped(fmt.Sprint(args...))) }

func (h *host) Fatalf(format string, args ...any) {
	panic(failed(fmt.Sprintf(format, args...)))
}

// try runs f, which may give up as a test does.
func (h *host) try(f func()) (why string, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failed:
			err = fmt.Errorf("database: %s", string(p))
		case skipped:
			why = string(p)
		default:
			panic(p)
		}
	}()
	f()
	return "", nil
}

func (h *host) dir() string {
	if h.tempDir == "" {
		dir, err := os.MkdirTemp("", "renew-bench-")
		if err != nil {
			return os.TempDir()
		}
		h.tempDir = dir
		h.Cleanup(func() { os.RemoveAll(dir) })
	}
	return h.tempDir
}

func (h *host) cleanUp() {
	for i := len(h.cleanups) - 1; i >= 0; i-- {
		h.cleanups[i]()
	}
	h.cleanups = nil
}

// databaseCPU is what a database server's processes have used since they
// started, where the system tells.
func databaseCPU(ctx context.Context, d *database) (time.Duration, error) {
	query := "SELECT pid FROM pg_stat_activity"
	if d.dialect == sqlstore.MySQL {
		query = "SELECT @@pid_file"
	}
	rows, err := d.db.QueryContext(ctx, query)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var all time.Duration
	for rows.Next() {
		var process string
		if err := rows.Scan(&process); err != nil {
			return 0, err
		}
		if d.dialect == sqlstore.MySQL {
			content, err := os.ReadFile(process)
			if err != nil {
				return 0, err
			}
			process = strings.TrimSpace(string(content))
		}
		ran, err := processCPU(process)
		if err != nil {
			return 0, err
		}
		all += ran
	}
	return all, rows.Err()
}

// processCPU is what a process's threads have run (schedstat of Linux's /proc, in
// nanoseconds). One that is gone counts as none.
func processCPU(pid string) (all time.Duration, err error) {
	threads, err := filepath.Glob(filepath.Join("/proc", pid, "task", "*", "schedstat"))
	for _, thread := range threads {
		content, err := os.ReadFile(thread)
		if err != nil {
			continue
		}
		var ran int64
		if _, err := fmt.Sscan(string(content), &ran); err != nil {
			return 0, fmt.Errorf("%s: %w", thread, err)
		}
		all += time.Duration(ran)
	}
	return all, err
}

// openUnflushed is open, but the database acknowledges before a commit is on the disk.
func (d *databases) openUnflushed(ctx context.Context, kind storeKind) (*backend, error) {
	dsn, err := d.empty(kind)
	if err != nil {
		return nil, err
	}
	b, err := openBackend(ctx, kind, dsn)
	if err != nil {
		return nil, err
	}
	db := b.engine.(*database).db
	if kind.Dialect == sqlstore.MySQL {
		_, err = db.ExecContext(ctx, "SET GLOBAL innodb_flush_log_at_trx_commit = 2")
		return b, err
	}
	// sqlstore rejects this setting where it is made: it counts from the next
	// connections.
	_, err = db.ExecContext(ctx, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$`)
	db.SetMaxIdleConns(0)
	db.SetMaxIdleConns(maxConns)
	return b, err
}
