package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jwtrenew/renew/internal/panics"
)

// runner runs statements on a pool of connections, so that
//
//   - waiting for a connection ends with the caller's context, and a statement
//     that has begun does not: to end it would cost the connection. It ends after
//     a timeout; the caller does not wait for it longer than its context;
//   - what the database has undone is repeated, and so is what a connection
//     cannot do that another one may: see class.
type runner struct {
	*dialect
	db       *sql.DB
	prefix   string
	timeout  time.Duration // of a statement, repetitions included
	prepares bool
	writing  turn   // nil: any number of statements write at a time
	preface  string // stands before every statement

	stmts []*stmt
}

func newRunner(c config, db *sql.DB) *runner {
	r := &runner{dialect: c.dialect, db: db, prefix: c.prefix, timeout: c.timeout, prepares: c.prepares}
	if c.dialect.singleWriter {
		r.writing = make(turn, 1)
	}
	return r
}

// stmt is a statement as the dialect writes it.
type stmt struct {
	query    string
	writes   bool
	mu       sync.RWMutex // held for writing while the statement is prepared again
	prepared *sql.Stmt    // nil: it is sent as text
}

// render returns a statement that is not prepared.
func (r *runner) render(statement string, writes bool) *stmt {
	return &stmt{query: r.preface + r.dialect.render(statement, r.prefix), writes: writes}
}

// prepare sets into to a statement, prepared unless the runner prepares none. If
// the tables are not there, it says so.
func (r *runner) prepare(ctx context.Context, into **stmt, statement string, writes bool) error {
	s := r.render(statement, writes)
	if err := r.repeated(ctx, true, func(ctx context.Context) error { return r.prepareAgain(ctx, s) }); err != nil {
		return fmt.Errorf("prepare a statement (has Migrate been run, with the same table prefix?): %w", err)
	}
	r.stmts = append(r.stmts, s)
	*into = s
	return nil
}

// prepareAgain replaces the prepared statement. The old one is closed first: a
// driver may otherwise give it again.
func (r *runner) prepareAgain(ctx context.Context, s *stmt) error {
	if !r.prepares {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.prepared != nil {
		_ = s.prepared.Close() // it was of no use
		s.prepared = nil
	}
	prepared, err := r.db.PrepareContext(ctx, s.query) //nolint:sqlclosecheck // close does
	if err != nil {
		return err
	}
	s.prepared = prepared
	return nil
}

func (r *runner) close() error {
	var all error
	for _, s := range r.stmts {
		s.mu.Lock()
		if s.prepared != nil {
			all = errors.Join(all, s.prepared.Close())
		}
		s.mu.Unlock()
	}
	return all
}

// executor runs statements: on a pool, or in a transaction of the caller's.
type executor interface {
	// exec returns how many rows the statement has changed. With idempotent it is
	// repeated also where it may have happened.
	exec(ctx context.Context, idempotent bool, s *stmt, args ...any) (int, error)
	// query calls scan for the rows. Scan is called again if the query is
	// repeated. It must not touch what the caller of query reads after an error.
	query(ctx context.Context, s *stmt, scan func(*sql.Rows) error, args ...any) error
	render(statement string, writes bool) *stmt
	classify(error) class
}

func (r *runner) exec(ctx context.Context, idempotent bool, s *stmt, args ...any) (int, error) {
	return runCall(ctx, r, idempotent, s, args, execOn)
}

func execOn(ctx context.Context, on querier, args []any) (int, error) {
	result, err := on.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

func (r *runner) query(ctx context.Context, s *stmt, scan func(*sql.Rows) error, args ...any) error {
	_, err := runCall(ctx, r, true, s, args, func(ctx context.Context, on querier, args []any) (struct{}, error) {
		return struct{}{}, queryOn(ctx, on, scan, args)
	})
	return err
}

func queryOn(ctx context.Context, on querier, scan func(*sql.Rows) error, args []any) error {
	rows, err := on.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err has said what went wrong
	if err := scan(rows); err != nil {
		return err
	}
	return rows.Err()
}

// scanOne scans the one row that there may be. It returns [sql.ErrNoRows] if there
// is none.
func scanOne(dest func() []any) func(*sql.Rows) error {
	return func(rows *sql.Rows) error {
		if !rows.Next() {
			if err := rows.Err(); err != nil {
				return err
			}
			return sql.ErrNoRows
		}
		return rows.Scan(dest()...)
	}
}

// querier is a statement that can be run: prepared, or on a connection.
type querier interface {
	ExecContext(ctx context.Context, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, args ...any) (*sql.Rows, error)
}

// onDB is a pool, a connection or a transaction.
type onDB interface {
	execer
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// textOn is a statement that is sent as text.
type textOn struct {
	db    onDB
	query string
}

func (t textOn) ExecContext(ctx context.Context, args ...any) (sql.Result, error) {
	return t.db.ExecContext(ctx, t.query, args...)
}

func (t textOn) QueryContext(ctx context.Context, args ...any) (*sql.Rows, error) {
	return t.db.QueryContext(ctx, t.query, args...)
}

type outcome[T any] struct {
	value T
	err   error
}

// runCall runs a statement, and returns when it is done or the caller's context
// is. In the second case a statement that has begun is finished all the same.
func runCall[T any](ctx context.Context, r *runner, idempotent bool, s *stmt, args []any,
	use func(context.Context, querier, []any) (T, error),
) (T, error) {
	return detached(ctx, r.timeout, func(c *call) (T, error) { //nolint:contextcheck // the call carries the context
		return repeat(c, r, idempotent, s.writes, func() (T, error) { return once(c, r, s, args, use) })
	})
}

// detached calls f, and returns when f does or the caller's context is done.
func detached[T any](ctx context.Context, timeout time.Duration, f func(c *call) (T, error)) (T, error) {
	var zero T
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	c := newCall(ctx, timeout)
	if ctx.Done() == nil {
		defer c.end()
		value, err := safely(c, f) //nolint:contextcheck // the call carries the context
		return value, c.explain(err)
	}
	done := make(chan outcome[T], 1)
	go func() { //nolint:contextcheck // as above
		defer c.end()
		value, err := safely(c, f)
		done <- outcome[T]{value, c.explain(err)}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
	}
	select {
	case o := <-done: // both simultaneously
		return o.value, o.err
	default:
		return zero, ctx.Err()
	}
}

// safely calls f. After a panic of the driver the statement may have happened.
func safely[T any](c *call, f func(c *call) (T, error)) (value T, err error) {
	defer panics.Catch(c, "sqlstore: the driver", &err)
	return f(c)
}

// once makes one attempt: with the prepared statement, and where it or the
// connection is of no use, on connections one after the other.
func once[T any](c *call, r *runner, s *stmt, args []any, use func(context.Context, querier, []any) (T, error)) (T, error) {
	value, err := fast(c, r, s, args, use)
	switch r.classify(err) {
	case stale:
		if err := r.prepareAgain(c, s); err != nil {
			return value, notBegun{err}
		}
	case unfit:
	default:
		return value, err
	}
	return onConn(c, r, func(conn *sql.Conn) (T, error) { return use(c, textOn{conn, s.query}, args) })
}

// fast draws a connection from the pool as it comes.
func fast[T any](c *call, r *runner, s *stmt, args []any, use func(context.Context, querier, []any) (T, error)) (T, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var on querier = textOn{r.db, s.query}
	if s.prepared != nil {
		on = s.prepared
	}
	value, err := use(c, on, c.beginsWith(args))
	if err == nil && s.writes && c.Err() != nil {
		// A driver may report success for a statement that it has cancelled, and
		// PostgreSQL then has not waited for its standby.
		err = c.Err()
	}
	return value, err
}

// onConn takes connections from the pool until f succeeds on one or fails for a
// reason that is not the connection's. Those that are unfit are closed.
func onConn[T any](c *call, r *runner, f func(conn *sql.Conn) (T, error)) (T, error) {
	for left := r.db.Stats().Idle; ; left-- {
		var value T
		conn, err := r.db.Conn(c)
		if err != nil {
			return value, err
		}
		if err = c.begin(); err == nil {
			value, err = f(conn)
		}
		if err == nil && c.Err() != nil {
			err = c.Err()
		}
		if r.classify(err) != unfit {
			_ = conn.Close() // it goes back to the pool
			return value, err
		}
		discard(conn)
		if left <= 0 {
			return value, err
		}
	}
}

// discard closes a connection instead of giving it back to the pool.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = conn.Close() // already closed
}

// transaction runs f in a transaction, and again where the database has undone it.
func (r *runner) transaction(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error {
	_, err := detached(ctx, r.timeout, func(c *call) (struct{}, error) { //nolint:contextcheck // the call carries the context
		return repeat(c, r, false, true, func() (struct{}, error) {
			return onConn(c, r, func(conn *sql.Conn) (struct{}, error) {
				tx, err := conn.BeginTx(c, nil)
				if err != nil {
					return struct{}{}, notBegun{err}
				}
				defer func() { _ = tx.Rollback() }() // nothing is left to roll back after a commit
				if err := f(c, tx); err != nil {
					return struct{}{}, err
				}
				return struct{}{}, tx.Commit()
			})
		})
	})
	return err
}

// A statement is tried this often, with a pause in between that doubles. Where one
// transaction writes at a time there is no such limit: there it waits for another
// process.
const (
	maxAttempts  = 6
	firstPause   = 2 * time.Millisecond
	longestPause = 64 * time.Millisecond
)

// repeat calls f until it succeeds or fails for good. Every statement that the
// database says it has undone is tried again; with idempotent also one that may or
// may not have happened, and one for which the error is notBegun.
//
// Where a connection broke, the pool may have others that the server has closed, all of
// them after a failover, and a driver may notice it only when it uses them. They do not
// count as attempts.
func repeat[T any](c *call, r *runner, idempotent, writes bool, f func() (T, error)) (T, error) {
	if writes {
		if err := r.writing.take(c); err != nil {
			var zero T
			return zero, err
		}
		defer r.writing.pass()
	}
	pause := firstPause
	dead := -1
	for attempt := 1; ; attempt++ {
		value, err := f()
		if err == nil || c.callerDone() {
			return value, err
		}
		switch class := r.classify(err); {
		case class == undone && (attempt < maxAttempts || r.singleWriter && writes):
		case class == broken && (idempotent || errors.As(err, new(notBegun))):
			others := r.db.Stats().Idle - 1 // the one that broke may be there, too
			if dead < 0 {
				dead = others
			}
			if min(others, dead) > 0 {
				dead--
				attempt--
				continue
			}
			if attempt == maxAttempts {
				return value, err
			}
		default:
			return value, err
		}
		// Those who ran into each other must not meet again.
		timer := time.NewTimer(pause/2 + rand.N(pause)) //nolint:gosec // no secret
		select {
		case <-c.parent.Done():
			timer.Stop()
			return value, err
		case <-c.Done():
			timer.Stop()
			return value, err
		case <-timer.C:
		}
		pause = min(2*pause, longestPause)
	}
}

// repeated is repeat for what a caller waits for: f ends with its context.
func (r *runner) repeated(ctx context.Context, idempotent bool, f func(ctx context.Context) error) error {
	c := newCall(ctx, startTimeout)
	defer c.end()
	_, err := repeat(c, r, idempotent, false, func() (struct{}, error) { return struct{}{}, f(c) }) //nolint:contextcheck // the call carries the context
	return err
}

// notBegun is the error of what comes before a statement, so that nothing is done.
type notBegun struct{ error }

func (e notBegun) Unwrap() error { return e.error }

// turn is a lock that can be waited for until a context is done. Nil is never
// locked.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	if t == nil {
		return nil
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) pass() {
	if t != nil {
		<-t
	}
}

// call is the context of a statement. Until the statement begins it ends with the
// caller's, then after a timeout.
type call struct {
	context.Context // the caller's values
	parent          context.Context
	timeout         time.Duration
	done            chan struct{}
	unfollow        func() bool // ends following the parent

	mu    sync.Mutex
	err   error
	begun bool
	timer *time.Timer
}

func newCall(parent context.Context, timeout time.Duration) *call {
	c := &call{Context: context.WithoutCancel(parent), parent: parent, timeout: timeout, done: make(chan struct{})}
	c.unfollow = context.AfterFunc(parent, func() { c.finish(parent.Err()) })
	return c
}

func (c *call) Done() <-chan struct{} { return c.done }

func (c *call) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *call) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.done)
	}
}

// begin is called when a connection is there, right before the statement is sent.
func (c *call) begin() error {
	if err := c.parent.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.begun {
		return c.err
	}
	c.begun = true
	c.unfollow()
	c.timer = time.AfterFunc(c.timeout, func() { c.finish(context.DeadlineExceeded) })
	return nil
}

func (c *call) end() {
	c.unfollow()
	c.mu.Lock()
	timer := c.timer
	c.mu.Unlock()
	if timer != nil {
		timer.Stop()
	}
	c.finish(context.Canceled)
}

func (c *call) callerDone() bool { return c.parent.Err() != nil }

// explain says whose time was up.
func (c *call) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case c.parent.Err() != nil && !errors.Is(err, c.parent.Err()):
		return fmt.Errorf("%w: %w", c.parent.Err(), err)
	case c.parent.Err() != nil, c.Err() == nil:
		return err
	}
	return fmt.Errorf("no result within %v: %w: %w", c.timeout, c.Err(), err)
}

// beginsWith returns the arguments with the first one such that the call begins
// when it is converted: database/sql converts arguments once it has a connection.
func (c *call) beginsWith(args []any) []any {
	if len(args) == 0 {
		return nil
	}
	all := append([]any(nil), args...)
	all[0] = beginning{c, args[0]}
	return all
}

type beginning struct {
	call  *call
	value any
}

// Value implements [driver.Valuer].
func (b beginning) Value() (driver.Value, error) {
	if err := b.call.begin(); err != nil {
		return nil, err
	}
	return driver.DefaultParameterConverter.ConvertValue(b.value)
}
