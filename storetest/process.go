package storetest

import (
	"cmp"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
)

// processVariable tells a test binary that it is to serve a store, and which.
const processVariable = "RENEW_STORETEST_PROCESS"

// ServeProcess turns a process that [StartProcess] has started into one that
// holds a store, and never returns there. Everywhere else it does nothing. Call
// it first in TestMain:
//
//	func TestMain(m *testing.M) {
//		storetest.ServeProcess(func(file string) (renew.TokenStore, error) { return Open(file) })
//		os.Exit(m.Run())
//	}
//
// open opens the store by the name that StartProcess was given, such as a file
// or a directory; after a crash it is called in a new process with the same
// name. The store is a [renew.TokenStore], a [renew.KeyStore], or both; S is any
// if that depends on the name. What the store prints goes to standard error.
func ServeProcess[S any](open func(name string) (S, error)) {
	name, set := os.LookupEnv(processVariable)
	if !set {
		return
	}
	out := os.Stdout
	os.Stdout = os.Stderr
	if err := serve(os.Stdin, out, func() (any, error) { return open(name) }); err != nil {
		fmt.Fprintln(os.Stderr, "storetest: store process:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Process is another process of the test's own binary, which holds a store. It
// makes laws T13 and K13 testable for a store that lives inside the process that
// uses it, such as one in a file, and runs every other law across a process
// boundary. It is safe for concurrent use.
type Process struct {
	name string
	mu   sync.Mutex
	conn *connection
}

// StartProcess starts a process that holds the store of this name; see
// [ServeProcess]. The process ends with the test.
func StartProcess(tb testing.TB, name string) *Process {
	tb.Helper()
	p := &Process{name: name}
	p.start(tb)
	tb.Cleanup(func() { p.current().kill() })
	return p
}

// Open returns a handle on the store, for [TestTokenStore]. It implements
// [renew.SubjectStore] and [renew.Purger] if the store does. A handle is dead after
// a crash.
func (p *Process) Open(tb testing.TB) renew.TokenStore {
	tb.Helper()
	c := p.current()
	h := remote{c}
	if !c.hello.Tokens {
		tb.Fatalf("storetest: the store of process %q does not implement renew.TokenStore", p.name)
	}
	switch {
	case c.hello.Subjects && c.hello.Purges:
		return struct {
			renew.TokenStore
			renew.SubjectStore
			renew.Purger
		}{h, h, h}
	case c.hello.Subjects:
		return struct {
			renew.TokenStore
			renew.SubjectStore
		}{h, h}
	case c.hello.Purges:
		return struct {
			renew.TokenStore
			renew.Purger
		}{h, h}
	}
	return struct{ renew.TokenStore }{h}
}

// Crash kills the process with SIGKILL, in the middle of whatever it does, and
// starts another on the same store. It is for [WithCrash].
func (p *Process) Crash(tb testing.TB) {
	tb.Helper()
	p.current().kill()
	p.start(tb)
}

func (p *Process) current() *connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn
}

func (p *Process) start(tb testing.TB) {
	tb.Helper()
	c, err := startProcess(p.name)
	if err != nil {
		tb.Fatalf("storetest: start a process for the store: %v; does TestMain call storetest.ServeProcess first?", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = c
}

// What goes over the pipes, as gob.

func init() {
	for _, value := range []any{time.Time{}, renew.Session{}, []renew.Session{}, wireApp{}, wireKey{}, []wireKey{}} {
		gob.Register(value)
	}
}

// toWire returns an argument or a result as it goes over the pipes.
func toWire(value any) (any, error) {
	switch v := value.(type) {
	case renew.App:
		return encodeApp(v)
	case renew.AppKeyHash:
		return v.String(), nil
	case *renew.SigningKey:
		return encodeSigningKey(v)
	case *renew.VerificationKey:
		return encodeKey(v)
	case []*renew.VerificationKey:
		return each(v, encodeKey)
	}
	return value, nil
}

// fromWire stores what toWire has returned where the pointer points.
func fromWire(value, pointer any) (err error) {
	if value == nil {
		return nil // the zero value
	}
	switch p := pointer.(type) {
	case *renew.App:
		*p, err = value.(wireApp).decode()
	case *renew.AppKeyHash:
		*p, err = renew.ParseAppKeyHash(value.(string))
	case **renew.SigningKey:
		*p, err = value.(wireKey).decodeSigningKey()
	case **renew.VerificationKey:
		*p, err = value.(wireKey).decode()
	case *[]*renew.VerificationKey:
		*p, err = each(value.([]wireKey), wireKey.decode)
	default:
		reflect.ValueOf(pointer).Elem().Set(reflect.ValueOf(value))
	}
	return err
}

// each returns what f makes of each value.
func each[A, B any](values []A, f func(A) (B, error)) (list []B, err error) {
	for _, value := range values {
		made, err := f(value)
		if err != nil {
			return nil, err
		}
		list = append(list, made)
	}
	return list, nil
}

// hello is the first thing that a process says.
type hello struct {
	Error string // the store cannot be opened

	// The interfaces that it implements: renew.TokenStore, SubjectStore, Purger,
	// KeyStore, KeyLister, KeyAdmin, AppLister and PublishedKeyStore.
	Tokens, Subjects, Purges                                  bool
	Keys, ListsKeys, Administers, ListsApps, ReturnsPublished bool
}

func greet(store any) (h hello) {
	h.Tokens = has[renew.TokenStore](store)
	h.Subjects = has[renew.SubjectStore](store)
	h.Purges = has[renew.Purger](store)
	h.Keys = has[renew.KeyStore](store)
	h.ListsKeys = has[renew.KeyLister](store)
	h.Administers = has[renew.KeyAdmin](store)
	h.ListsApps = has[renew.AppLister](store)
	h.ReturnsPublished = has[renew.PublishedKeyStore](store)
	if !h.Tokens && !h.Keys {
		h.Error = fmt.Sprintf("a %T implements neither renew.TokenStore nor renew.KeyStore", store)
	}
	return h
}

// request is a call, or the end of the context of one.
type request struct {
	ID      uint64
	Cancel  bool
	Expired bool // the context's error is DeadlineExceeded
	Method  string
	Args    []any // without the context, see toWire
}

type response struct {
	ID     uint64
	Result any // see toWire; nil: the zero value
	Error  string
	Is     []int // positions in errorNames
}

// remoteError is an error of the process's store. It matches the errors of
// errorNames that the store's error does.
type remoteError struct {
	text string
	is   []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.is }

func (r *response) setError(err error) {
	if err == nil {
		return
	}
	r.Error = err.Error()
	for i, known := range errorNames {
		if errors.Is(err, known.err) {
			r.Is = append(r.Is, i)
		}
	}
}

func (r *response) error() error {
	if r.Error == "" {
		return nil
	}
	e := &remoteError{text: r.Error}
	for _, i := range r.Is {
		e.is = append(e.is, errorNames[i].err)
	}
	return e
}

// serve makes the calls of the requests until in ends.
func serve(in io.Reader, out io.Writer, open func() (any, error)) error {
	enc, dec := gob.NewEncoder(out), gob.NewDecoder(in)
	store, err := open()
	if err != nil {
		return enc.Encode(hello{Error: err.Error()})
	}
	if err := enc.Encode(greet(store)); err != nil {
		return err
	}
	s := &server{store: store, enc: enc, cancels: map[uint64]context.CancelFunc{}}
	for {
		var r request
		if err := dec.Decode(&r); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		s.take(r)
	}
}

// server calls the store. It never stops reading to write: both pipes might be
// full.
type server struct {
	store   any
	sending sync.Mutex
	enc     *gob.Encoder

	mu      sync.Mutex
	cancels map[uint64]context.CancelFunc
}

func (s *server) take(r request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == "" { // the end of a context
		if cancel := s.cancels[r.ID]; cancel != nil {
			cancel()
		}
		return
	}
	ctx := context.Background()
	if r.Expired {
		past, cancel := context.WithDeadline(ctx, time.Unix(0, 0))
		defer cancel()
		ctx = past
	}
	ctx, cancel := context.WithCancel(ctx)
	if r.Cancel {
		cancel()
	}
	s.cancels[r.ID] = cancel
	go s.respond(ctx, r)
}

func (s *server) respond(ctx context.Context, r request) {
	result, err := s.call(ctx, r)
	resp := response{ID: r.ID, Result: result}
	resp.setError(err)
	s.mu.Lock()
	s.cancels[r.ID]()
	delete(s.cancels, r.ID)
	s.mu.Unlock()
	s.sending.Lock()
	defer s.sending.Unlock()
	if err := s.enc.Encode(resp); err != nil {
		fmt.Fprintln(os.Stderr, "storetest: store process:", err)
	}
}

// call calls the method of the store that has the name.
func (s *server) call(ctx context.Context, r request) (result any, err error) {
	method := reflect.ValueOf(s.store).MethodByName(r.Method)
	if !method.IsValid() {
		return nil, fmt.Errorf("unknown method %q", r.Method)
	}
	in := []reflect.Value{reflect.ValueOf(ctx)}
	for i, arg := range r.Args {
		value := reflect.New(method.Type().In(i + 1))
		if err := fromWire(arg, value.Interface()); err != nil {
			return nil, err
		}
		in = append(in, value.Elem())
	}
	call := method.Call
	if method.Type().IsVariadic() {
		call = method.CallSlice
	}
	out := call(in)
	err, _ = out[len(out)-1].Interface().(error)
	if len(out) == 2 && !out[0].IsZero() {
		var wireErr error
		result, wireErr = toWire(out[0].Interface())
		err = cmp.Or(err, wireErr)
	}
	return result, err
}

// connection is the parent's end of the pipes.
type connection struct {
	cmd     *exec.Cmd
	hello   hello
	sending sync.Mutex
	enc     *gob.Encoder

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan response
	ended   error // why no more responses come

	gone chan struct{} // closed when the process has ended
}

func startProcess(name string) (*connection, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.Background(), binary) //nolint:gosec // the test itself, which kill ends
	cmd.Env = append(os.Environ(), processVariable+"="+name)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &connection{cmd: cmd, enc: gob.NewEncoder(in), waiting: map[uint64]chan response{}, gone: make(chan struct{})}
	dec := gob.NewDecoder(out)
	err = dec.Decode(&c.hello)
	go c.receive(dec)
	if err == nil && c.hello.Error != "" {
		err = errors.New(c.hello.Error)
	}
	if err != nil {
		c.kill()
		return nil, err
	}
	return c, nil
}

// receive hands out responses until the process ends.
func (c *connection) receive(dec *gob.Decoder) {
	var err error
	for err == nil {
		var r response
		if err = dec.Decode(&r); err == nil {
			c.mu.Lock()
			waiting := c.waiting[r.ID]
			delete(c.waiting, r.ID)
			c.mu.Unlock()
			waiting <- r
		}
	}
	c.mu.Lock()
	c.ended = fmt.Errorf("the store's process has ended: %w", err)
	for id, waiting := range c.waiting {
		waiting <- response{Error: c.ended.Error()}
		delete(c.waiting, id)
	}
	c.mu.Unlock()
	_ = c.cmd.Wait() // it was killed, or says why on standard error
	close(c.gone)
}

func (c *connection) kill() {
	_ = c.cmd.Process.Kill() // an error: it has ended already
	<-c.gone
}

// call calls a method of the store and waits for its result. The end of ctx is passed
// on: when to give up is the store's to decide.
func (c *connection) call(ctx context.Context, method string, result any, args ...any) error {
	args, err := each(args, toWire)
	if err != nil {
		return err
	}
	r := request{Method: method, Args: args, Cancel: ctx.Err() != nil, Expired: errors.Is(ctx.Err(), context.DeadlineExceeded)}
	waiting, err := c.expect(&r)
	if err != nil {
		return err
	}
	if err := c.send(r); err != nil {
		return err // the process ends, and receive forgets the request
	}
	defer context.AfterFunc(ctx, func() {
		_ = c.send(request{ID: r.ID, Cancel: true}) // an error: there is nothing left to cancel
	})()
	resp := <-waiting
	err = resp.error()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = &remoteError{err.Error(), []error{ctx.Err()}}
	}
	return cmp.Or(err, fromWire(resp.Result, result))
}

// expect gives the request its number, under which the response comes.
func (c *connection) expect(r *request) (waiting chan response, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil {
		return nil, c.ended
	}
	c.last++
	r.ID = c.last
	waiting = make(chan response, 1)
	c.waiting[r.ID] = waiting
	return waiting, nil
}

func (c *connection) send(r request) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.enc.Encode(r)
}

// remote is a handle on the store of a process.
type remote struct{ *connection }

func (h remote) CreateSession(ctx context.Context, s renew.Session) error {
	return h.call(ctx, "CreateSession", nil, s)
}

func (h remote) Session(ctx context.Context, appID, sessionID string) (s renew.Session, err error) {
	err = h.call(ctx, "Session", &s, appID, sessionID)
	return s, err
}

func (h remote) Rotate(ctx context.Context, from string, next renew.Session) error {
	return h.call(ctx, "Rotate", nil, from, next)
}

func (h remote) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	return h.call(ctx, "RevokeSession", nil, appID, sessionID, at)
}

func (h remote) SubjectSessions(ctx context.Context, appID, subject string, at time.Time) (list []renew.Session, err error) {
	err = h.call(ctx, "SubjectSessions", &list, appID, subject, at)
	return list, err
}

func (h remote) RevokeSubject(ctx context.Context, appID, subject string, at time.Time, keep ...string) (n int, err error) {
	err = h.call(ctx, "RevokeSubject", &n, appID, subject, at, keep)
	return n, err
}

func (h remote) DeleteExpired(ctx context.Context, before time.Time, limit int) (n int, err error) {
	err = h.call(ctx, "DeleteExpired", &n, before, limit)
	return n, err
}
