package sqlstore_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
)

// watch records every statement that reaches a driver, however it got there. It
// can also fail them all.
type watch struct {
	broken *atomic.Bool // nil: never
	opened atomic.Int64 // connections

	disguise   bool   // errors have no form that is known
	panicking  bool   // the next statement happens, and then the driver panics
	lose       string // the next statement that has this in it happens, and its answer is lost
	losing     bool
	mu         sync.Mutex
	statements []string
	prepared   []string
	begun      int
}

var errBroken = errors.New("the disk is gone")

func (w *watch) statement(query string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.statements = append(w.statements, query)
	if w.broken != nil && w.broken.Load() {
		return errBroken
	}
	return nil
}

// take returns what has reached the driver since the last call: statements,
// preparations, and transactions begun.
func (w *watch) take() (statements, prepared []string, begun int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	statements, prepared, begun = w.statements, w.prepared, w.begun
	w.statements, w.prepared, w.begun = nil, nil, 0
	return statements, prepared, begun
}

// count returns how many statements have reached the driver since take.
func (w *watch) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.statements)
}

// panicNext has the driver panic in the next statement that has this in it.
func (w *watch) panicNext(query string) {
	w.loseNextOf(query)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.panicking = true
}

// loseNext has the answer to the next statement lost, as when the connection
// breaks just then.
func (w *watch) loseNext() { w.loseNextOf("") }

func (w *watch) loseNextUpdate() { w.loseNextOf("UPDATE") }

// loseNextOf has the connection break in the next statement that contains this text. A
// preparation is PREPARE, the begin of a transaction BEGIN.
func (w *watch) loseNextOf(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose, w.losing = text, true
}

// lost reports whether the answer to this statement is the one to lose.
func (w *watch) lost(query string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.losing || !strings.Contains(query, w.lose) {
		return false
	}
	w.losing = false
	if w.panicking {
		w.panicking = false
		panic("a bug in the driver")
	}
	return true
}

func (w *watch) result(query string, result driver.Result, err error) (driver.Result, error) {
	if err != nil && w.disguise && !errors.Is(err, driver.ErrSkip) {
		err = errors.New(err.Error())
	}
	if err == nil && w.lost(query) {
		return nil, io.ErrUnexpectedEOF
	}
	return result, err
}

func (w *watch) rows(query string, rows driver.Rows, err error) (driver.Rows, error) {
	if err == nil && w.lost(query) {
		_ = rows.Close()
		return nil, io.ErrUnexpectedEOF
	}
	return rows, err
}

type watchedConnector struct {
	driver driver.Driver
	dsn    string
	*watch
}

func (c *watchedConnector) Driver() driver.Driver { return c.driver }

func (c *watchedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	c.opened.Add(1)
	return &watchedConn{conn, c.watch}, nil
}

func (c *watchedConnector) open(ctx context.Context) (driver.Conn, error) {
	withContext, ok := c.driver.(driver.DriverContext)
	if !ok {
		return c.driver.Open(c.dsn)
	}
	connector, err := withContext.OpenConnector(c.dsn)
	if err != nil {
		return nil, err
	}
	return connector.Connect(ctx)
}

// watchedConn passes on what all three drivers can do.
type watchedConn struct {
	driver.Conn
	*watch
}

func (c *watchedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.mu.Lock()
	c.prepared = append(c.prepared, query)
	c.mu.Unlock()
	if c.lost("PREPARE") {
		return nil, io.ErrUnexpectedEOF
	}
	stmt, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return &watchedStmt{stmt, query, c.watch}, nil
}

func (c *watchedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.statement(query); err != nil {
		return nil, err
	}
	result, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	return c.result(query, result, err)
}

func (c *watchedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.statement(query); err != nil {
		return nil, err
	}
	rows, err := c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
	return c.rows(query, rows, err)
}

func (c *watchedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.mu.Lock()
	c.begun++
	c.mu.Unlock()
	if c.lost("BEGIN") {
		return nil, io.ErrUnexpectedEOF
	}
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
}

func (c *watchedConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

func (c *watchedConn) ResetSession(ctx context.Context) error {
	if resetter, ok := c.Conn.(driver.SessionResetter); ok {
		return resetter.ResetSession(ctx)
	}
	return nil
}

func (c *watchedConn) IsValid() bool {
	validator, ok := c.Conn.(driver.Validator)
	return !ok || validator.IsValid()
}

type watchedStmt struct {
	driver.Stmt
	query string
	*watch
}

func (s *watchedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := s.statement(s.query); err != nil {
		return nil, err
	}
	result, err := s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
	return s.result(s.query, result, err)
}

func (s *watchedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := s.statement(s.query); err != nil {
		return nil, err
	}
	rows, err := s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
	return s.rows(s.query, rows, err)
}
