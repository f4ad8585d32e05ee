package jwtplus_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/dbtest"
	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/jwtplus"
)

// keysOf imports the apps and keys of a database alone.
func keysOf(tb testing.TB, f fixture, s stores) {
	tb.Helper()
	d := newOldDatabase(tb)
	for _, table := range []string{"apps", "app_keys"} {
		for _, r := range f.tables[table] {
			d.insert(table, r)
		}
	}
	for _, r := range f.tables["tokens"] { // for the former issuers
		d.insert("tokens", r)
	}
	run(tb, d, s, jwtplus.Options{})
}

// lazyStores has the keys of the fixture and no session; lines collects what Lazy
// reports.
func lazyStores(tb testing.TB, f fixture, d *oldDatabase) (s stores, tokens renew.TokenStore, lines func() []jwtplus.Line) {
	tb.Helper()
	s = newMemory(tb)
	keysOf(tb, f, s)
	s.tokens = newMemory(tb).tokens
	var mu sync.Mutex
	var all []jwtplus.Line
	tokens = jwtplus.Lazy(jwtplus.NewSource(d.DB), s.tokens, jwtplus.OnLine(func(_ context.Context, l jwtplus.Line) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, l)
	}))
	return s, tokens, func() []jwtplus.Line {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// TestLazyFixture promises that every refresh token does what it should when its
// session is taken over at its first renewal, and is used up by it.
func TestLazyFixture(t *testing.T) {
	f := readFixture(t)
	d := f.database(t)
	s, tokens, lines := lazyStores(t, f, d)
	server := newServer(t, s, tokens)
	f.renewAll(t, server, func(expectation) bool { return true })
	for _, l := range lines() {
		require.Contains(t, []jwtplus.Reason{jwtplus.ReasonClaims, jwtplus.ReasonEmptyTokens, jwtplus.ReasonLongSubject}, l.Reason)
	}
	report, _ := run(t, d, s, jwtplus.Options{})
	require.Equal(t, 44, report.Sessions.Existing, "an import after it finds them all: %+v", report)
	for _, e := range f.expectations {
		status, _ := post(t, server.URL+"/app/"+e.AppID+"/renew", f.appKeys[e.AppID], renewal(e.RefreshToken))
		require.Equal(t, 400, status, "%s: a used token", e.Kind)
	}
}

// TestLazyRevocation promises that what is revoked before it was taken over stays
// revoked: by its token, by its ID, and with all sessions of its subject.
func TestLazyRevocation(t *testing.T) {
	f := readFixture(t)
	d := f.database(t)
	s, tokens, _ := lazyStores(t, f, d)
	r, err := renew.New(s.keys, tokens, renew.WithClock(atFixtureClock))
	require.NoError(t, err)
	ctx := t.Context()

	byToken, byID := f.token(t, "short IPv6 address"), f.token(t, "user agent of 255 bytes")
	require.NoError(t, r.Revoke(ctx, byToken.text("apps_id"), byToken.text("auth_token")))
	require.NoError(t, r.RevokeSession(ctx, byID.text("apps_id"), byID.text("token_id")))
	sessions, err := r.Sessions(ctx, generatedApp, "user-plain")
	require.NoError(t, err)
	require.Len(t, sessions, 2, "sessions that are not taken over yet are listed")
	n, err := r.RevokeSubject(ctx, generatedApp, "user-past")
	require.NoError(t, err)
	require.Equal(t, 1, n)

	run(t, d, s, jwtplus.Options{})
	for _, row := range []record{byToken, byID, f.token(t, "auth token ended (exp overridden to the past), not renewed")} {
		_, err := r.Renew(ctx, renew.RenewRequest{AppID: row.text("apps_id"), RefreshToken: row.text("refresh_token"), IP: "192.0.2.1"})
		var rejected *renew.TokenError
		require.ErrorAs(t, err, &rejected)
		require.Equal(t, renew.ReasonRevokedSession, rejected.Reason)
	}
	_, purges := tokens.(renew.Purger)
	require.False(t, purges, "a session that Lazy deletes would be taken over again")
}

// TestLazyOutage promises that an old database that is away is an error, and not an
// unknown session.
func TestLazyOutage(t *testing.T) {
	f := readFixture(t)
	d := f.database(t)
	s, tokens, lines := lazyStores(t, f, d)
	r, err := renew.New(s.keys, tokens, renew.WithClock(atFixtureClock))
	require.NoError(t, err)
	require.NoError(t, d.Close())
	row := f.token(t, "plain")
	_, err = r.Renew(t.Context(), renew.RenewRequest{AppID: row.text("apps_id"), RefreshToken: row.text("refresh_token"), IP: "192.0.2.1"})
	require.Error(t, err)
	require.NotErrorIs(t, err, renew.ErrInvalidRefreshToken)
	require.NotErrorIs(t, err, renew.ErrSessionNotFound)
	_, err = r.RevokeSubject(t.Context(), generatedApp, "user-plain")
	require.Error(t, err)
	require.Empty(t, lines())
}

// TestLazyForeignRows promises that a row that cannot be taken over is an unknown
// session, and is reported.
func TestLazyForeignRows(t *testing.T) {
	f := readFixture(t)
	d := newOldDatabase(t)
	for _, r := range f.tables["app_keys"] {
		d.insert("app_keys", r)
	}
	s, tokens, lines := lazyStores(t, f, d)
	all := f.generate(t, d, 6)
	d.exec("UPDATE app_keys SET is_revoked = 'yes' WHERE key_id = ?", generatedKey)
	_, err := tokens.Session(t.Context(), generatedApp, all[0].tokenID)
	require.ErrorIs(t, err, renew.ErrSessionNotFound)
	d.exec("UPDATE app_keys SET is_revoked = 'no' WHERE key_id = ?", generatedKey)

	d.exec("UPDATE tokens SET key_id = ? WHERE token_id = ?", generatedID(1000), all[1].tokenID)
	d.exec("UPDATE tokens SET sub = 'x' WHERE token_id = ?", all[2].tokenID)
	d.exec("ALTER TABLE tokens DROP PRIMARY KEY")
	d.exec("INSERT INTO tokens SELECT * FROM tokens WHERE token_id = ?", all[3].tokenID)
	d.exec("UPDATE tokens SET token_id = LOWER(token_id) WHERE token_id = ?", all[4].tokenID)
	d.exec("UPDATE tokens SET apps_id = LOWER(apps_id) WHERE token_id = ?", all[5].tokenID)
	for _, g := range all[1:] {
		_, err := tokens.Session(t.Context(), generatedApp, g.tokenID)
		require.ErrorIs(t, err, renew.ErrSessionNotFound)
	}
	_, err = tokens.Session(t.Context(), strings.ToLower(generatedApp), all[0].tokenID)
	require.ErrorIs(t, err, renew.ErrSessionNotFound, "an app in lower case is another one")
	for _, appID := range []string{generatedApp, strings.ToLower(generatedApp)} {
		for _, g := range all {
			_, err = s.tokens.Session(t.Context(), appID, g.tokenID)
			require.ErrorIs(t, err, renew.ErrSessionNotFound, "a session was created")
		}
	}
	_, err = tokens.Session(t.Context(), generatedApp, all[0].tokenID)
	require.NoError(t, err)
	require.Equal(t, []jwtplus.Reason{
		jwtplus.ReasonKey, jwtplus.ReasonKey, jwtplus.ReasonSubject,
		jwtplus.ReasonDuplicate, jwtplus.ReasonDuplicate, jwtplus.ReasonID,
	}, reasons(lines()))
}

// TestLazyUnderLoad has 16 clients renew, each token presented by two concurrently, while
// the import runs and the old database is killed and started again. Each token has
// one successor, and no client is told that a valid token is invalid: of the two that
// present one, one gets the successor.
func TestLazyUnderLoad(t *testing.T) {
	const clients = 16
	n := rounds.Of(t, 40) * clients
	server := dbtest.PrivateMariaDB(t)
	f := readFixture(t)
	d := newOldDatabaseOn(t, server)
	for _, table := range []string{"apps", "app_keys"} {
		for _, r := range f.tables[table] {
			d.insert(table, r)
		}
	}
	all := f.generate(t, d, n)
	old, err := sql.Open(server.Driver(), server.DSN(d.name)+"?timeout=2s&readTimeout=2s&writeTimeout=2s")
	require.NoError(t, err)
	t.Cleanup(func() { _ = old.Close() })
	old.SetMaxOpenConns(clients)
	source := jwtplus.NewSource(old)

	s := newMemory(t)
	keysOf(t, f, s)
	s.tokens = newMemory(t).tokens
	l := &load{clients: clients, all: all, half: make(chan struct{})}
	counting := &countingStore{TokenStore: s.tokens}
	l.renewer, err = renew.New(s.keys, jwtplus.Lazy(source, counting), renew.WithClock(atFixtureClock))
	require.NoError(t, err)

	imported := make(chan struct{})
	var imports int
	go func() {
		defer close(imported)
		for t.Context().Err() == nil {
			imports++
			_, err := jwtplus.Import(t.Context(), source, s.keys, s.tokens, jwtplus.Options{
				Now: atFixtureClock, BatchSize: 4, Workers: 2, Progress: l.keepPace,
			})
			if err == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	running := l.start(t)
	<-l.half
	server.Kill(t)
	l.awaitFailures(t, clients)
	server.Start(t)
	running.Wait()
	<-imported
	require.False(t, t.Failed())

	for i, g := range all {
		winners := l.winners[i]
		require.Len(t, winners, 1, "token %d has %d successors", i, len(winners))
		session, err := s.tokens.Session(t.Context(), generatedApp, g.tokenID)
		require.NoError(t, err)
		require.Equal(t, winners[0].TokenID, session.TokenID)
		require.True(t, session.RevokedAt.IsZero())
		_, err = l.renewer.VerifySession(t.Context(), generatedApp, winners[0].AuthToken)
		require.NoError(t, err)
	}
	taken := int(counting.created.Load())
	t.Logf("%d tokens, each presented by two: %d sessions taken over by renewals, %d by imports (%d runs); %d renewals failed in the outage and were repeated",
		n, taken, n-taken, imports, l.failures.Load())
	require.Positive(t, taken)
	require.Less(t, taken, n)
	require.Positive(t, l.failures.Load(), "the outage was not seen")
}

// load is clients that renew.
type load struct {
	renewer *renew.Renewer
	clients int
	all     []generated

	done     atomic.Int64 // tokens that are renewed
	failures atomic.Int64 // renewals that ended with an internal error
	half     chan struct{}
	winners  [][]*renew.Bundle // by token
}

func (l *load) start(t *testing.T) *sync.WaitGroup {
	l.winners = make([][]*renew.Bundle, len(l.all))
	var running sync.WaitGroup
	for client := range l.clients {
		running.Go(func() {
			for i := client; i < len(l.all); i += l.clients {
				// From the end, as the import comes from the beginning.
				l.renewTwice(t, len(l.all)-1-i)
				if l.done.Add(1) == int64(len(l.all)/2) {
					close(l.half)
				}
			}
		})
	}
	return &running
}

// renewTwice has two present a token concurrently, and each repeat its request as long as
// it gets an internal error.
func (l *load) renewTwice(t *testing.T, i int) {
	var mu sync.Mutex
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			b, err := l.renewUntilClear(t, l.all[i].refreshToken)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				l.winners[i] = append(l.winners[i], b)
				return
			}
			var rejected *renew.TokenError
			if !errors.As(err, &rejected) || rejected.Reason != renew.ReasonSuperseded {
				t.Errorf("token %d: %v", i, err)
			}
		})
	}
	both.Wait()
}

func (l *load) renewUntilClear(t *testing.T, token string) (*renew.Bundle, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		b, err := l.renewer.Renew(t.Context(), renew.RenewRequest{
			AppID: generatedApp, RefreshToken: token, IP: "203.0.113.1", UserAgent: "client",
		})
		if err == nil || errors.Is(err, renew.ErrInvalidRefreshToken) || t.Context().Err() != nil {
			return b, err
		}
		l.failures.Add(1)
		time.Sleep(pause) // the database recovers
	}
}

// keepPace holds the import back, so that it runs for as long as the clients do.
func (l *load) keepPace(p jwtplus.Progress) {
	if p.Stage != jwtplus.StageSessions {
		return
	}
	for deadline := time.Now().Add(time.Minute); int64(p.Done) > l.done.Load()+8 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
}

func (l *load) awaitFailures(t *testing.T, n int64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); l.failures.Load() < n; time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "no renewal has failed in the outage")
	}
}

// countingStore counts the sessions that are created through it.
type countingStore struct {
	renew.TokenStore
	created atomic.Int64
}

func (s *countingStore) CreateSession(ctx context.Context, session renew.Session) error {
	err := s.TokenStore.CreateSession(ctx, session)
	if err == nil {
		s.created.Add(1)
	}
	return err
}
