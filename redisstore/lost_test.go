package redisstore_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/redisstore"
)

// lossy passes connections on to a server. When it is told to, it closes a connection
// in the place of the next reply: the server has done what the client asked for, and
// the client does not know.
type lossy struct {
	listener net.Listener
	server   string
	lose     atomic.Int64 // so many replies
	lost     atomic.Int64
	conns    sync.WaitGroup
}

func newLossy(tb testing.TB, server string) *lossy {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	p := &lossy{listener: listener, server: server}
	p.conns.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.conns.Go(func() { p.serve(client) })
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close()
		p.conns.Wait()
	})
	return p
}

func (p *lossy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.server)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	p.conns.Go(func() {
		_, _ = io.Copy(server, client) // until either side ends
		_ = server.Close()
	})
	buffer := make([]byte, 1<<16)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if p.lose.Add(-1) >= 0 {
			p.lost.Add(1)
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// named are the errors that mean that a call was in vain.
var named = []error{
	renew.ErrConflict, renew.ErrSessionExists, renew.ErrSessionNotFound,
	renew.ErrAppExists, renew.ErrAppNotFound, renew.ErrKeyExists, renew.ErrKeyNotFound,
}

// lostCase is a method that is called once, and what must be so afterwards.
type lostCase struct {
	name  string
	call  func(ctx context.Context, tokens *redisstore.TokenStore, keys *redisstore.KeyStore) error
	check func(t *testing.T, tokens *redisstore.TokenStore, keys *redisstore.KeyStore)
}

func lostCases(t *testing.T, s renew.Session) []lostCase {
	t.Helper()
	next, fresh := successor(s), newSession("fresh")
	key, published := newKey(t), newKey(t)
	_, hash := renew.NewAppKey()
	get := func(t *testing.T, tokens *redisstore.TokenStore, id string) renew.Session {
		t.Helper()
		got, err := tokens.Session(t.Context(), testApp, id)
		require.NoError(t, err)
		return got
	}
	return []lostCase{
		{"CreateSession", func(ctx context.Context, tokens *redisstore.TokenStore, _ *redisstore.KeyStore) error {
			return tokens.CreateSession(ctx, fresh)
		}, func(t *testing.T, tokens *redisstore.TokenStore, _ *redisstore.KeyStore) {
			require.Equal(t, fresh, get(t, tokens, fresh.ID))
			all, err := tokens.SubjectSessions(t.Context(), testApp, fresh.Subject, base)
			require.NoError(t, err)
			require.Len(t, all, 2)
		}},
		{"Session", func(ctx context.Context, tokens *redisstore.TokenStore, _ *redisstore.KeyStore) error {
			_, err := tokens.Session(ctx, testApp, s.ID)
			return err
		}, nil},
		{"Rotate", func(ctx context.Context, tokens *redisstore.TokenStore, _ *redisstore.KeyStore) error {
			return tokens.Rotate(ctx, s.TokenID, next)
		}, func(t *testing.T, tokens *redisstore.TokenStore, _ *redisstore.KeyStore) {
			require.Equal(t, next, get(t, tokens, s.ID))
		}},
		{"Rotate to another subject", func(ctx context.Context, tokens *redisstore.TokenStore, _ *redisstore.KeyStore) error {
			moved := next
			moved.Subject = "other"
			return tokens.Rotate(ctx, s.TokenID, moved)
		}, func(t *testing.T, tokens *redisstore.TokenStore, _ *redisstore.KeyStore) {
			all, err := tokens.SubjectSessions(t.Context(), testApp, "other", base)
			require.NoError(t, err)
			require.Len(t, all, 1)
		}},
		{"RevokeSession", func(ctx context.Context, tokens *redisstore.TokenStore, _ *redisstore.KeyStore) error {
			return tokens.RevokeSession(ctx, testApp, s.ID, base)
		}, func(t *testing.T, tokens *redisstore.TokenStore, _ *redisstore.KeyStore) {
			require.Equal(t, base, get(t, tokens, s.ID).RevokedAt)
		}},
		{"SubjectSessions", func(ctx context.Context, tokens *redisstore.TokenStore, _ *redisstore.KeyStore) error {
			all, err := tokens.SubjectSessions(ctx, testApp, s.Subject, base)
			if err == nil && len(all) != 1 {
				return errors.New("not one session")
			}
			return err
		}, nil},
		{"RevokeSubject", func(ctx context.Context, tokens *redisstore.TokenStore, _ *redisstore.KeyStore) error {
			n, err := tokens.RevokeSubject(ctx, testApp, s.Subject, base)
			if err == nil && n != 1 {
				return renew.ErrConflict // its own write, counted for another's
			}
			return err
		}, func(t *testing.T, tokens *redisstore.TokenStore, _ *redisstore.KeyStore) {
			require.Equal(t, base, get(t, tokens, s.ID).RevokedAt)
		}},
		{"DeleteExpired", func(ctx context.Context, tokens *redisstore.TokenStore, _ *redisstore.KeyStore) error {
			_, err := tokens.DeleteExpired(ctx, base.AddDate(9, 0, 0), 10)
			return err
		}, func(t *testing.T, tokens *redisstore.TokenStore, _ *redisstore.KeyStore) {
			_, err := tokens.Session(t.Context(), testApp, s.ID)
			require.ErrorIs(t, err, renew.ErrSessionNotFound)
		}},
		{"CreateApp", func(ctx context.Context, _ *redisstore.TokenStore, keys *redisstore.KeyStore) error {
			return keys.CreateApp(ctx, renew.App{ID: "new", Issuer: "issuer"})
		}, func(t *testing.T, _ *redisstore.TokenStore, keys *redisstore.KeyStore) {
			_, err := keys.App(t.Context(), "new")
			require.NoError(t, err)
		}},
		{"UpdateApp", func(ctx context.Context, _ *redisstore.TokenStore, keys *redisstore.KeyStore) error {
			return keys.UpdateApp(ctx, renew.App{ID: testApp, Issuer: "changed"})
		}, func(t *testing.T, _ *redisstore.TokenStore, keys *redisstore.KeyStore) {
			app, err := keys.App(t.Context(), testApp)
			require.NoError(t, err)
			require.Equal(t, "changed", app.Issuer)
		}},
		{"AddAppKey and RemoveAppKey", func(ctx context.Context, _ *redisstore.TokenStore, keys *redisstore.KeyStore) error {
			if err := keys.AddAppKey(ctx, testApp, hash); err != nil {
				return err
			}
			return keys.RemoveAppKey(ctx, testApp, hash)
		}, nil},
		{"PublishSigningKey", func(ctx context.Context, _ *redisstore.TokenStore, keys *redisstore.KeyStore) error {
			return keys.PublishSigningKey(ctx, testApp, published)
		}, func(t *testing.T, _ *redisstore.TokenStore, keys *redisstore.KeyStore) {
			_, err := keys.PublishedKey(t.Context(), testApp, published.KeyID())
			require.NoError(t, err)
		}},
		{"RotateSigningKey", func(ctx context.Context, _ *redisstore.TokenStore, keys *redisstore.KeyStore) error {
			return keys.RotateSigningKey(ctx, testApp, key, base)
		}, func(t *testing.T, _ *redisstore.TokenStore, keys *redisstore.KeyStore) {
			got, err := keys.SigningKey(t.Context(), testApp)
			require.NoError(t, err)
			require.Equal(t, key.KeyID(), got.KeyID())
		}},
	}
}

// TestLostReplies promises that a caller gets success, or an error of unclear outcome,
// when replies are lost, and never an error that says that its own write was in vain:
// for each method, with each of its replies lost in turn, with the
// client's repetitions and without.
func TestLostReplies(t *testing.T) {
	f := oneServer(t)
	direct := f.client(t)
	ctx := t.Context()
	for name, change := range map[string]func(*redis.UniversalOptions){
		"retries": func(*redis.UniversalOptions) {}, "no retries": withoutRetries,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession("session")
			for i, c := range lostCases(t, s) {
				t.Run(c.name, func(t *testing.T) {
					for at := range 12 {
						require.NoError(t, direct.FlushAll(ctx).Err())
						tokens, keys := f.tokens(t, direct), f.keys(t, direct)
						require.NoError(t, tokens.CreateSession(ctx, s))
						require.NoError(t, keys.CreateApp(ctx, renew.App{ID: testApp, Issuer: "issuer"}))
						c := lostCases(t, s)[i]
						if !loseReply(t, f, change, at, c) {
							break // it has no such reply
						}
						if name == "retries" && c.check != nil {
							c.check(t, tokens, keys)
						}
					}
				})
			}
		})
	}
}

// loseReply calls the method while the reply after the first at ones is lost, and
// reports whether there was one.
func loseReply(t *testing.T, f *form, change func(*redis.UniversalOptions), at int, c lostCase) bool {
	t.Helper()
	proxy := newLossy(t, f.options.Addrs[0])
	defer func() { _ = proxy.listener.Close() }()
	client := f.client(t, change, func(o *redis.UniversalOptions) {
		o.Addrs = []string{proxy.listener.Addr().String()}
		o.PoolSize, o.DialerRetries = 1, 0
	})
	defer func() { _ = client.Close() }()
	tokens, keys := f.tokens(t, client), f.keys(t, client)
	hook := &replyHook{at: at, proxy: proxy}
	client.AddHook(hook)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := c.call(ctx, tokens, keys)
	for _, wrong := range named {
		require.NotErrorIs(t, err, wrong, "reply %d was lost", at+1)
	}
	if client.(*redis.Client).Options().MaxRetries > 0 {
		require.NoError(t, err, "reply %d was lost, and the client has repeated the command", at+1)
	}
	return proxy.lost.Load() > 0
}

// replyHook has the proxy lose the reply to the command, or pipeline, of that number.
type replyHook struct {
	at, seen int
	proxy    *lossy
}

func (h *replyHook) count() {
	if h.seen == h.at {
		h.proxy.lose.Store(1)
	}
	h.seen++
}

func (h *replyHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *replyHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.count()
		return next(ctx, cmd)
	}
}

func (h *replyHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.count()
		return next(ctx, cmds)
	}
}
