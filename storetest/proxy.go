package storetest

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy passes connections on to a server and breaks them when a test says so. A
// client whose connection breaks during a call cannot know whether the server has
// done what it was sent. A Proxy is safe for concurrent use.
type Proxy struct {
	listener         net.Listener
	network, address string // of the server

	mu       sync.Mutex
	open     map[net.Conn]bool // both ends of every connection; true: silenced
	closed   bool
	refusing int           // how many calls of Refuse are not over
	silence  int           // the same of Silence
	delay    time.Duration // of what the server sends
	losing   bool
	skip     int // replies that pass before the one that is lost

	wait sync.WaitGroup
}

// NewProxy starts a proxy to the server at address, which is host:port or the path of
// a Unix domain socket. It listens on the loopback interface until the test has ended.
func NewProxy(tb testing.TB, address string) *Proxy {
	tb.Helper()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("storetest: start a proxy: %v", err)
	}
	p := &Proxy{listener: listener, network: network, address: address, open: map[net.Conn]bool{}}
	p.wait.Go(p.accept)
	tb.Cleanup(p.close)
	return p
}

// Address is where the proxy listens: host and port.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Cut closes every connection and returns how many there were. New ones are accepted.
func (p *Proxy) Cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.open) / 2
	for conn := range p.open {
		_ = conn.Close()
	}
	clear(p.open)
	return n
}

// Refuse closes every connection, and each new one immediately, until restore is
// called. The server is then unreachable through the proxy, as [WithOutage] asks.
func (p *Proxy) Refuse() (restore func()) {
	p.mu.Lock()
	p.refusing++
	p.mu.Unlock()
	p.Cut()
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.refusing--
	})
}

// Silence has the proxy drop packets, as a firewall does that has forgotten its
// connections: they stay open and pass nothing, old ones and new ones. After restore
// new ones pass again; those that were silenced never do.
func (p *Proxy) Silence() (restore func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silence++
	for conn := range p.open {
		p.open[conn] = true
	}
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.silence--
	})
}

func (p *Proxy) silenced(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open[conn]
}

// Delay holds back for d each piece that the server sends from now on. Zero: not at
// all.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// LoseReply lets the next n pieces that the server sends pass, on any connection,
// and closes the connection instead of passing on the one after: the server has done
// what it was sent, and the client does not learn of it. Only one is lost. stop ends
// this, and reports whether one was lost.
//
// What a server sends without being asked counts, too.
func (p *Proxy) LoseReply(n int) (stop func() (lost bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.losing, p.skip = true, n
	return func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		lost := !p.losing
		p.losing = false
		return lost
	}
}

// reply reports what becomes of a piece that the server has sent.
func (p *Proxy) reply() (delay time.Duration, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.losing {
		p.skip--
		if p.skip < 0 {
			p.losing = false
			return 0, true
		}
	}
	return p.delay, false
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.Cut()
	p.wait.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wait.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := new(net.Dialer).DialContext(context.Background(), p.network, p.address)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if !p.add(client, server) {
		return
	}
	var sending sync.WaitGroup
	sending.Go(func() {
		_, _ = io.Copy(requests{p, server}, client) // how it ends is no error
		_ = server.Close()
	})
	_, _ = io.Copy(replies{p, client}, server)
	_ = client.Close()
	sending.Wait()
	p.remove(client, server)
}

// requests passes on what the client sends, or does not.
type requests struct {
	proxy  *Proxy
	server net.Conn
}

func (r requests) Write(piece []byte) (int, error) {
	if r.proxy.silenced(r.server) {
		return len(piece), nil
	}
	return r.server.Write(piece)
}

// replies passes on what the server sends, or does not.
type replies struct {
	proxy  *Proxy
	client net.Conn
}

var errReplyLost = errors.New("the reply is lost")

func (r replies) Write(piece []byte) (int, error) {
	if r.proxy.silenced(r.client) {
		return len(piece), nil
	}
	delay, lost := r.proxy.reply()
	if lost {
		return 0, errReplyLost
	}
	time.Sleep(delay)
	return r.client.Write(piece)
}

func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.refusing > 0 {
		return false
	}
	for _, conn := range conns {
		p.open[conn] = p.silence > 0
	}
	return true
}

func (p *Proxy) remove(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		delete(p.open, conn)
	}
}
