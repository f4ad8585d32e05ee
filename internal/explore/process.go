package explore

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/jwtrenew/renew"
)

// A process runs the real Renewer for one request at a time, and remembers what
// it did.
//
// Between two calls of its stores a renewal depends only on the request and on
// what it was given so far: the replies, the clock, whether its client is still
// there, and random bits that the request determines. So a process needs to run
// each such history once. The histories are the nodes of a tree: the root is a
// request, an edge a reply, and a node says what the Renewer does next: the call
// it makes, or the result it returns. To extend a history, the request is run
// again from its start, and given the same replies; a Renewer that then makes
// other calls than before is not deterministic, which is a panic.
//
// One request at a time also means that each request in flight has a server to
// itself. They share the stores and nothing else.
type process struct {
	config  *Config
	renewer *renew.Renewer
	keys    []*renew.SigningKey
	nodes   []node
	roots   map[request]int32
	edges   map[edge]int32

	sessions table[string, renew.Session]
	jids     table[string, string]
	tokens   table[string, token]

	mu  sync.Mutex
	run *run
}

// table gives values small numbers, from 1.
type table[K comparable, V any] struct {
	numbers map[K]int32
	values  []V
}

func (t *table[K, V]) number(key K, value V) int32 {
	if t.numbers == nil {
		t.numbers = map[K]int32{}
		t.values = make([]V, 1)
	}
	n, ok := t.numbers[key]
	if !ok {
		n = int32(len(t.values)) //nolint:gosec // far fewer
		t.numbers[key] = n
		t.values = append(t.values, value)
	}
	return n
}

func (t *table[K, V]) at(n int32) *V { return &t.values[n] }

// token is a refresh token that a client may hold.
type token struct {
	compact   string
	jid       int32
	key       int8 // which key signed it
	notBefore int64
	expiresAt int64
}

type requestKind int8

const (
	renewal requestKind = iota
	logout
)

// request is one request of a client, as it arrives.
type request struct {
	kind   requestKind
	by     party
	token  int32
	key    party // whose idempotency key it carries
	away   bool  // it comes from another network than usual
	number int8  // of all requests that were started before it
	clock  int64 // at its arrival
}

type callKind int8

const (
	callApp callKind = iota
	callVerificationKey
	callSigningKey
	callHook
	callSession
	callRotate
	callRevoke
	returned
)

// call is what a request in flight does next.
type call struct {
	kind callKind
	key  int8  // of callVerificationKey
	from int32 // of callRotate: a jid
	next int32 // of callRotate: a session

	at       int64 // of callRevoke
	dead     bool  // its context was done when it was made
	heeds    bool  // it is canceled with the request
	deadline bool  // its context has one
	result   *result
}

// equal reports whether two calls ask for the same.
func (c call) equal(o call) bool {
	return c.kind == o.kind && c.key == o.key && c.from == o.from && c.next == o.next && c.at == o.at
}

type replyKind int8

const (
	done replyKind = iota
	conflict
	notFound
	keyRevoked
	outage      // an error of the store, whatever it did
	contextDone // the context's error, once it is done, whatever the store did
	denied      // by the renew function
)

// reply is what a call returned, and what else the request can then see.
type reply struct {
	kind     replyKind
	session  int32 // of callSession
	key      int8  // of callSigningKey
	until    int64 // of callVerificationKey: the end of a replaced key
	clock    int64
	canceled bool // the client has hung up
}

// result is what a request ended with.
type result struct {
	token   int32 // the pair's refresh token; 0: none
	retried bool
	reason  renew.Reason
	ahead   bool
	err     error
	events  []event
}

type event struct {
	kind  renew.EventKind
	after int // so many calls
}

type node struct {
	request request
	parent  int32
	reply   reply // by which the node differs from its parent
	call    call
}

type edge struct {
	from int32
	reply
}

// run is an execution of a history.
type run struct {
	request   request
	replies   []reply
	calls     []call // that they are replies to
	used      int    // replies
	clock     int64
	cancel    context.CancelFunc
	draws     int
	events    []event
	pending   *call
	violation error
}

const (
	appID  = "app"
	noNode = -1
)

// epoch is the clock's zero. Its milliseconds show truncation.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 345_000_000, time.UTC)

func at(clock int64) time.Time { return epoch.Add(time.Duration(clock) * time.Millisecond) }
func clockOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Sub(epoch).Milliseconds()
}

var errOutage = errors.New("the connection to the store was lost")

// executing guards crypto/rand.Reader, from which the Renewer takes its random
// bits, and which a run replaces.
var executing sync.Mutex

func newProcess(c *Config) (*process, error) {
	p := &process{config: c, roots: map[request]int32{}, edges: map[edge]int32{}}
	for i := range 2 {
		seed := bytes.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize)
		key, err := renew.NewSigningKey(fmt.Sprintf("01KJN0000000000000000000%02d", i), renew.EdDSA, ed25519.NewKeyFromSeed(seed))
		if err != nil {
			return nil, err
		}
		p.keys = append(p.keys, key)
	}
	var err error
	p.renewer, err = p.newRenewer()
	return p, err
}

// newRenewer returns a Renewer on the process's stores.
func (p *process) newRenewer() (*renew.Renewer, error) {
	opts := []renew.Option{
		renew.WithRetryWindow(p.config.RetryWindow),
		renew.WithReuseLeeway(p.config.ReuseLeeway),
		renew.WithAhead(p.config.Ahead),
		renew.WithClock(func() time.Time { return at(p.run.clock) }),
		renew.WithEventFunc(func(_ context.Context, e renew.Event) {
			p.run.events = append(p.run.events, event{e.Kind, p.run.used})
		}),
	}
	if p.config.Hook {
		opts = append(opts, renew.WithRenewFunc(p.hook))
	}
	return renew.New(keyStore{p}, tokenStore{p}, opts...)
}

// issue starts the session, before anything else happens, and returns the
// session and its refresh token.
func (p *process) issue() (session, tok int32, err error) {
	executing.Lock()
	defer executing.Unlock()
	p.run = &run{request: request{number: -1}}
	defer p.swapRandom()()
	b, err := p.renewer.Issue(context.Background(), renew.IssueRequest{
		AppID: appID, Subject: "subject", IP: address(owner, false), UserAgent: "agent",
	})
	if err != nil {
		return 0, 0, err
	}
	return int32(len(p.sessions.values)) - 1, p.token(b), p.run.violation //nolint:gosec // far fewer
}

func (p *process) token(b *renew.Bundle) int32 {
	t := token{
		compact:   b.RefreshToken,
		jid:       p.jid(b.TokenID),
		notBefore: clockOf(b.RefreshNotBefore),
		expiresAt: clockOf(b.RefreshExpiresAt),
	}
	for i, key := range p.keys {
		if key.VerificationKey().KeyID() == b.KeyID {
			t.key = int8(i) //nolint:gosec // two
		}
	}
	return p.tokens.number(b.RefreshToken, t)
}

func (p *process) jid(id string) int32 { return p.jids.number(id, id) }

// session numbers a session by what it holds.
func (p *process) session(s renew.Session) int32 {
	encoded, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return p.sessions.number(string(encoded), s.Clone())
}

// start returns the node of a request that has just arrived.
func (p *process) start(r request) int32 {
	n, ok := p.roots[r]
	if !ok {
		n = p.add(node{request: r, parent: noNode})
		p.roots[r] = n
	}
	return n
}

// extend returns the node that follows when a node's call is replied to.
func (p *process) extend(n int32, r reply) int32 {
	next, ok := p.edges[edge{n, r}]
	if !ok {
		next = p.add(node{request: p.nodes[n].request, parent: n, reply: r})
		p.edges[edge{n, r}] = next
	}
	return next
}

func (p *process) add(n node) int32 {
	p.nodes = append(p.nodes, n)
	id := int32(len(p.nodes)) - 1 //nolint:gosec // far fewer
	p.nodes[id].call = p.execute(id)
	return id
}

// execute runs the history of a node and returns what comes next.
func (p *process) execute(id int32) call {
	executing.Lock()
	defer executing.Unlock()
	n := p.nodes[id]
	r := &run{request: n.request, clock: n.request.clock}
	for i := id; p.nodes[i].parent != noNode; i = p.nodes[i].parent {
		r.replies = append(r.replies, p.nodes[i].reply)
		r.calls = append(r.calls, p.nodes[p.nodes[i].parent].call)
	}
	reverse(r.replies)
	reverse(r.calls)
	p.run = r
	defer p.swapRandom()()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r.cancel = cancel
	res := p.handle(ctx, p.renewer, n.request)
	if r.violation != nil {
		panic(r.violation)
	}
	if r.pending != nil {
		return *r.pending
	}
	if r.used != len(r.replies) {
		panic(fmt.Sprintf("explore: the Renewer made %d calls, and %d before", r.used, len(r.replies)))
	}
	res.events = r.events
	return call{kind: returned, result: &res}
}

func reverse[E any](s []E) {
	for i, j := 0, len(s)-1; i < j; i, j = i+1, j-1 {
		s[i], s[j] = s[j], s[i]
	}
}

// handle has a Renewer handle a request.
func (p *process) handle(ctx context.Context, renewer *renew.Renewer, r request) result {
	t := p.tokens.at(r.token)
	if r.kind == logout {
		return result{err: renewer.Revoke(ctx, appID, t.compact)}
	}
	b, err := renewer.Renew(ctx, renew.RenewRequest{
		AppID:          appID,
		RefreshToken:   t.compact,
		IP:             address(p.config.home(r.by), r.away),
		UserAgent:      "agent",
		IdempotencyKey: p.idempotencyKey(r.key, t.jid),
	})
	res := result{err: err, ahead: errors.Is(err, renew.ErrAhead)}
	if key := p.idempotencyKey(r.key, t.jid); err != nil && (strings.Contains(err.Error(), t.compact) || key != "" && strings.Contains(err.Error(), key)) {
		p.run.violation = errors.New("an error holds a token or an idempotency key")
	}
	var rejected *renew.TokenError
	if errors.As(err, &rejected) {
		res.reason = rejected.Reason
	}
	if err == nil && p.run.pending == nil {
		res.token, res.retried = p.token(b), b.Retried
	}
	return res
}

// idempotencyKey is what a party drew at random for a token.
func (p *process) idempotencyKey(of party, jid int32) string {
	if of == nobody {
		return ""
	}
	return fmt.Sprintf("%s-drew-%s", of, *p.jids.at(jid))
}

// address is the network that a party sends from.
func address(by party, away bool) string {
	last := "1"
	if by == thief {
		last = "2"
	}
	if away {
		return "198.51.100." + last
	}
	return "192.0.2." + last
}

// swapRandom replaces crypto/rand.Reader, and returns what puts it back.
func (p *process) swapRandom() func() {
	original := rand.Reader
	rand.Reader = bits{p}
	return func() { rand.Reader = original }
}

// bits are the random bits of a request: other ones for each request of a run
// and for each time that it draws, and those of later requests are greater, or
// smaller.
type bits struct{ *process }

func (b bits) Read(to []byte) (int, error) {
	clear(to)
	number := byte(b.run.request.number + 1) //nolint:gosec // small
	if b.config.Descending {
		number = 255 - number
	}
	copy(to, []byte{number, byte(b.run.draws)}) //nolint:gosec // small
	b.run.draws++
	return len(to), nil
}

var _ io.Reader = bits{}

// await returns the reply to a call: the recorded one, or, for the first call
// that has none, an error, with which the run comes to its end.
func (p *process) await(ctx context.Context, c call) (reply, error) {
	if q, ok := ctx.Value(liveKey{}).(*liveRequest); ok {
		return q.await(ctx, c)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.run
	if r.pending != nil {
		return reply{}, errOutage
	}
	if r.used == len(r.replies) {
		c.dead = ctx.Err() != nil
		_, c.deadline = ctx.Deadline()
		r.cancel()
		c.heeds = ctx.Err() != nil
		r.pending = &c
		return reply{}, errOutage
	}
	given := r.replies[r.used]
	if !c.equal(r.calls[r.used]) {
		panic(fmt.Sprintf("explore: call %d of the Renewer is another than before", r.used+1))
	}
	r.used++
	r.clock = given.clock
	if given.canceled {
		r.cancel()
	}
	if given.kind == contextDone {
		<-ctx.Done() // for a timeout, the clock of the synctest bubble jumps
		return given, ctx.Err()
	}
	return given, given.kind.err()
}

// err is the error that a store returns for it.
func (k replyKind) err() error {
	switch k {
	case outage:
		return errOutage
	case conflict:
		return renew.ErrConflict
	case notFound:
		return renew.ErrSessionNotFound
	case keyRevoked:
		return renew.ErrKeyRevoked
	case denied:
		return renew.ErrDenied
	case done, contextDone:
	}
	return nil
}

func (p *process) hook(ctx context.Context, _ *renew.Renewal) error {
	_, err := p.await(ctx, call{kind: callHook})
	return err
}

// keyStore is the KeyStore of the Renewer. Where the configuration leaves the
// keys alone, its calls are no scheduling points: nothing that they return
// changes.
type keyStore struct{ *process }

func (s keyStore) App(ctx context.Context, _ string) (renew.App, error) {
	app := renew.App{
		ID: appID, Issuer: "issuer",
		AuthTTL:          s.config.AuthTTL,
		RefreshTTL:       s.config.RefreshTTL,
		RefreshNotBefore: s.config.RefreshNotBefore,
		SessionTTL:       s.config.SessionTTL,
	}
	if !s.config.KeyCalls || s.run.request.number < 0 {
		return app, nil
	}
	_, err := s.await(ctx, call{kind: callApp})
	return app, err
}

func (s keyStore) SigningKey(ctx context.Context, _ string) (*renew.SigningKey, error) {
	if !s.config.KeyCalls || s.run.request.number < 0 {
		return s.keys[0], nil
	}
	r, err := s.await(ctx, call{kind: callSigningKey})
	return s.keys[r.key], err
}

func (s keyStore) VerificationKey(ctx context.Context, _, keyID string) (*renew.VerificationKey, error) {
	for i, key := range s.keys {
		if key.VerificationKey().KeyID() != keyID {
			continue
		}
		if !s.config.KeyCalls {
			return key.VerificationKey(), nil
		}
		r, err := s.await(ctx, call{kind: callVerificationKey, key: int8(i)}) //nolint:gosec // two
		if r.until != 0 {
			return key.VerificationKey().Until(at(r.until)), err
		}
		return key.VerificationKey(), err
	}
	return nil, renew.ErrKeyNotFound
}

// tokenStore is the TokenStore of the Renewer: every call is a scheduling point.
type tokenStore struct{ *process }

func (s tokenStore) CreateSession(_ context.Context, session renew.Session) error {
	s.inspect(session)
	s.session(session)
	return nil
}

func (s tokenStore) Session(ctx context.Context, _, _ string) (renew.Session, error) {
	r, err := s.await(ctx, call{kind: callSession})
	if err != nil {
		return renew.Session{}, err
	}
	return s.sessions.at(r.session).Clone(), nil
}

func (s tokenStore) Rotate(ctx context.Context, from string, next renew.Session) error {
	s.inspect(next)
	_, err := s.await(ctx, call{kind: callRotate, from: s.jid(from), next: s.process.session(next)})
	return err
}

func (s tokenStore) RevokeSession(ctx context.Context, _, _ string, t time.Time) error {
	_, err := s.await(ctx, call{kind: callRevoke, at: clockOf(t)})
	return err
}

// inspect looks for what a thief of the store could replay: the token and the
// key of the request, and whatever has the form of a token.
func (s tokenStore) inspect(session renew.Session) {
	if s.run.request.number < 0 || s.run.pending != nil {
		return
	}
	encoded, err := json.Marshal(session)
	if err != nil {
		panic(err)
	}
	t := s.tokens.at(s.run.request.token)
	key := s.idempotencyKey(s.run.request.key, t.jid)
	held := string(encoded) + string(session.IdempotencyKeyHash)
	if strings.Contains(held, t.compact) || key != "" && strings.Contains(held, key) || strings.Contains(held, "eyJ") {
		s.run.violation = fmt.Errorf("promise 6: what is stored holds a token or an idempotency key: %s", encoded)
	}
}
