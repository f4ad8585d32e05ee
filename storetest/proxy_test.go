package storetest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
)

// echo starts a server that sends back every line, and returns where it listens.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

// line is a connection to an echo server, made again when it is broken.
type line struct {
	address string
	limit   time.Duration // for a reply; zero: none
	mu      sync.Mutex
	conn    net.Conn
}

// ask sends a line and waits for it to come back.
func (l *line) ask() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", l.address)
		if err != nil {
			return err
		}
		l.conn = conn
	}
	deadline := time.Time{}
	if l.limit > 0 {
		deadline = time.Now().Add(l.limit)
	}
	if err := l.conn.SetDeadline(deadline); err != nil {
		return err
	}
	_, err := io.WriteString(l.conn, "a line\n")
	if err == nil {
		_, err = bufio.NewReader(l.conn).ReadString('\n')
	}
	if err != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
	return err
}

// TestProxy promises that a proxy breaks connections as it is told, and nothing else.
func TestProxy(t *testing.T) {
	p := NewProxy(t, echo(t))
	first, second := &line{address: p.Address()}, &line{address: p.Address()}
	want := func(what string, l *line, works bool) {
		t.Helper()
		if err := l.ask(); (err == nil) != works {
			t.Fatalf("%s: error %v, want one: %t", what, err, !works)
		}
	}
	want("a new connection", first, true)
	want("another one", second, true)
	if n := p.Cut(); n != 2 {
		t.Fatalf("Cut returned %d, want 2", n)
	}
	want("a connection that was cut", first, false)
	want("a new connection after Cut", first, true)

	restore := p.Refuse()
	again := p.Refuse()
	want("an old connection while it refuses", first, false)
	want("a new connection while it refuses", first, false)
	again()
	want("while it still refuses", first, false)
	restore()
	want("when it refuses no more", first, true)

	stop := p.LoseReply(1)
	want("the reply before the lost one", first, true)
	want("the lost one", first, false)
	want("the one after", first, true)
	if !stop() {
		t.Fatal("no reply was lost")
	}
	stop = p.LoseReply(3)
	want("a reply that is not lost", first, true)
	if stop() {
		t.Fatal("a reply was lost")
	}
	want("after stop", first, true)
	want("after stop", first, true)
	want("after stop", first, true)

	restore = p.Silence()
	for what, l := range map[string]*line{"an old connection": first, "a new one": {address: p.Address()}} {
		l.limit = 20 * time.Millisecond
		want(what+" while packets are dropped", l, false)
		l.limit = 0
	}
	restore()
	want("a new connection afterwards", first, true)

	const delay = 20 * time.Millisecond
	p.Delay(delay)
	begun := time.Now()
	want("with a delay", first, true)
	if took := time.Since(begun); took < delay {
		t.Fatalf("the reply took %v, with a delay of %v", took, delay)
	}
}

// wire is what a store's calls pass through: each is done, and its reply may be
// lost. A client library may send it again then.
type wire struct {
	line
	again bool // the client library does
	knows bool // the store recognizes its own write
}

var errLost = errors.New("connection reset by peer")

func (w *wire) call(ctx context.Context, do func(context.Context) error) error {
	if ctx.Err() != nil {
		return do(ctx)
	}
	result := do(ctx)
	if w.ask() == nil {
		return result
	}
	if !w.again {
		return errLost
	}
	if w.ask() != nil {
		return errLost
	}
	if w.knows {
		return result
	}
	return do(ctx)
}

func wiredTokens(s sound, w *wire) *patched {
	return &patched{
		sound: s,
		create: func(ctx context.Context, session renew.Session) error {
			return w.call(ctx, func(ctx context.Context) error { return s.CreateSession(ctx, session) })
		},
		rotate: func(ctx context.Context, from string, next renew.Session) error {
			return w.call(ctx, func(ctx context.Context) error { return s.Rotate(ctx, from, next) })
		},
		revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			return w.call(ctx, func(ctx context.Context) error { return s.RevokeSession(ctx, appID, sessionID, at) })
		},
	}
}

func wiredKeys(s soundKeys, w *wire) *patchedKeys {
	return &patchedKeys{
		allKeys: s,
		create: func(ctx context.Context, app renew.App) error {
			return w.call(ctx, func(ctx context.Context) error { return s.CreateApp(ctx, app) })
		},
		remove: func(ctx context.Context, appID string, hash renew.AppKeyHash) error {
			return w.call(ctx, func(ctx context.Context) error { return s.RemoveAppKey(ctx, appID, hash) })
		},
		rotate: func(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
			return w.call(ctx, func(ctx context.Context) error { return s.RotateSigningKey(ctx, appID, key, now) })
		},
	}
}

// TestLostReplies promises that a store whose client library sends a call again is
// caught unless it recognizes its own write, and that one which is not sure passes.
func TestLostReplies(t *testing.T) {
	for name, c := range map[string]struct {
		again, knows bool
		caught       bool
	}{
		"returns the client's error":   {false, false, false},
		"sends again and recognizes":   {true, true, false},
		"sends again, a store as ever": {true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := NewProxy(t, echo(t))
			w := &wire{line: line{address: p.Address()}, again: c.again, knows: c.knows}
			r := tryCase(t, wiredTokens(sound{newBacking()}, w), "T12", "lost-replies", WithProxy(p))
			if caught := len(r.failures) > 0; caught != c.caught || r.skipped != "" {
				t.Errorf("TokenStore: failures %v, skipped %q", r.failures, r.skipped)
			}
			keys := wiredKeys(newSoundKeys(), w)
			s := newKeySuite(func(testing.TB) renew.KeyStore { return keys }, newConfig([]Option{WithProxy(p)}))
			r = runCase(t, s, "K11", "lost-replies")
			if caught := len(r.failures) > 0; caught != c.caught || r.skipped != "" {
				t.Errorf("KeyStore: failures %v, skipped %q", r.failures, r.skipped)
			}
		})
	}
}
