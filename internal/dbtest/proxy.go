package dbtest

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy passes connections on to a server, until it is told to cut them. A client
// whose connection is cut while a statement is under way cannot know whether the
// statement happened.
type Proxy struct {
	listener         net.Listener
	network, address string // of the server

	mu     sync.Mutex
	open   map[net.Conn]bool // both ends of every connection
	closed bool
	wait   sync.WaitGroup
}

func newProxy(tb testing.TB, network, address string) *Proxy {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{listener: listener, network: network, address: address, open: make(map[net.Conn]bool)}
	p.wait.Go(p.accept)
	tb.Cleanup(p.close)
	return p
}

// Address is where the proxy listens: host and port.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Cut closes every connection, and returns how many there were. New ones are
// welcome.
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
	var both sync.WaitGroup
	both.Go(func() { pass(server, client) })
	both.Go(func() { pass(client, server) })
	both.Wait()
	p.remove(client, server)
}

// pass copies until either side ends, and ends the other. How they end is what
// this is for, and no error.
func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
}

func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	for _, conn := range conns {
		p.open[conn] = true
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
