package redisstore_test

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/fleettest"
	"github.com/jwtrenew/renew/redisstore"
)

// TestStoredAsText promises that an operator can read a session.
func TestStoredAsText(t *testing.T) {
	f := oneServer(t)
	client := f.client(t)
	s := successor(newSession("session"))
	s.EndsAt, s.RevokedAt = base.AddDate(0, 0, 1), base.Add(time.Second)
	require.NoError(t, f.tokens(t, client).CreateSession(t.Context(), s))
	keys, err := client.Keys(t.Context(), "renew:*:session:3:app:session").Result()
	require.NoError(t, err)
	require.Len(t, keys, 1)
	fields, err := client.HGetAll(t.Context(), keys[0]).Result()
	require.NoError(t, err)
	delete(fields, "writes")
	delete(fields, "entry")
	require.Equal(t, map[string]string{
		"app": "app", "id": "session", "subject": "subject", "audience": `["a","b"]`, "claims": `{"n":9007199254740993}`,
		"created_at": "1767323045006", "ends_at": "1767409445006", "revoked_at": "1767323046006",
		"generation": "1", "token_id": s.TokenID, "previous_token_id": s.PreviousTokenID,
		"issued_at": "1767323105006", "refresh_not_before": "1767323105006", "refresh_expires_at": "1767326705006",
		"idempotency_key_hash": hex.EncodeToString(s.IdempotencyKeyHash), "ip": "192.0.2.1", "user_agent": "test",
	}, fields)
}

// TestFieldsAreEmptied promises that a rotation leaves nothing of what the new session
// lacks, also if another of its fields has such a name as its text.
func TestFieldsAreEmptied(t *testing.T) {
	f := oneServer(t)
	store := f.tokens(t, f.client(t))
	s := successor(newSession("session"))
	s.EndsAt = base.AddDate(1, 0, 0)
	require.NoError(t, store.CreateSession(t.Context(), s))
	next := successor(s)
	next.Audience, next.Claims, next.IdempotencyKeyHash, next.EndsAt = nil, nil, nil, time.Time{}
	next.IP, next.UserAgent, next.TokenID = "claims", "idempotency_key_hash", "ends_at"
	require.NoError(t, store.Rotate(t.Context(), s.TokenID, next))
	got, err := store.Session(t.Context(), testApp, s.ID)
	require.NoError(t, err)
	require.Equal(t, next, got)
}

// TestRetention promises that Redis keeps a session until the retention is over, counted
// from its end, or from its last write if the end is in the past, and for ever with
// zero.
func TestRetention(t *testing.T) {
	f := oneServer(t)
	ctx, client := t.Context(), f.client(t)
	now, err := client.Time(ctx).Result()
	require.NoError(t, err)
	for _, c := range []struct {
		name      string
		ends      time.Time
		retention time.Duration
		from      time.Time // of the retention; zero: for ever
	}{
		{"live", now.Add(time.Hour), redisstore.DefaultRetention, now.Add(time.Hour)},
		{"ended long ago", now.AddDate(-1, 0, 0), 2 * time.Hour, now},
		{"for ever", now.Add(time.Hour), 0, time.Time{}},
		{"in centuries", now.AddDate(900, 0, 0), time.Hour, now.AddDate(900, 0, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, client.FlushAll(ctx).Err())
			store := f.tokens(t, client, redisstore.WithRetention(c.retention))
			s := newSession("session")
			s.RefreshExpiresAt = c.ends
			require.NoError(t, store.CreateSession(ctx, s))
			requireTTL(t, client, c.from, c.retention)
			next := successor(s)
			next.RefreshExpiresAt = c.ends
			require.NoError(t, store.Rotate(ctx, s.TokenID, next))
			requireTTL(t, client, c.from, c.retention)
			require.NoError(t, store.RevokeSession(ctx, testApp, s.ID, now))
			requireTTL(t, client, c.from, c.retention)
		})
	}
}

func requireTTL(t *testing.T, client redis.UniversalClient, from time.Time, retention time.Duration) {
	t.Helper()
	keys, err := client.Keys(t.Context(), "*:session:*").Result()
	require.NoError(t, err)
	require.Len(t, keys, 1)
	at, err := client.Do(t.Context(), "PEXPIRETIME", keys[0]).Int64()
	require.NoError(t, err)
	if from.IsZero() {
		require.Negative(t, at)
		return
	}
	require.InDelta(t, from.Add(retention).UnixMilli(), at, float64(time.Minute.Milliseconds()))
}

// TestDeletedByRedis promises that what Redis deletes when the retention is over leaves
// entries that DeleteExpired and a listing delete, and that are not counted.
func TestDeletedByRedis(t *testing.T) {
	f := oneServer(t)
	ctx, client := t.Context(), f.client(t)
	store := f.tokens(t, client)
	require.NoError(t, store.CreateSession(ctx, newSession("session")))
	keys, err := client.Keys(ctx, "*:session:*").Result()
	require.NoError(t, err)
	require.NoError(t, client.Del(ctx, keys...).Err()) // what the end of the retention does
	age(t, client)
	listed, err := store.SubjectSessions(ctx, testApp, "subject", base)
	require.NoError(t, err)
	require.Empty(t, listed)
	n, err := store.DeleteExpired(ctx, base.AddDate(1, 0, 0), 10)
	require.NoError(t, err)
	require.Zero(t, n)
	left, err := client.Keys(ctx, "*").Result()
	require.NoError(t, err)
	require.Empty(t, left)
}

// age makes the entries of all subjects two days old.
func age(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	indexes, err := client.Keys(t.Context(), "*:subject").Result()
	require.NoError(t, err)
	now, err := client.Time(t.Context()).Result()
	require.NoError(t, err)
	for _, index := range indexes {
		entries, err := client.HGetAll(t.Context(), index).Result()
		require.NoError(t, err)
		for id, entry := range entries {
			name, _, _ := strings.Cut(entry, ":")
			require.NoError(t, client.HSet(t.Context(), index, id, fmt.Sprintf("%s:%d", name, now.AddDate(0, 0, -2).Unix())).Err())
		}
	}
}

// TestScriptCacheIsEmptied promises that every method works when Redis has forgotten
// the scripts, as after a restart or on the server that a failover promotes.
func TestScriptCacheIsEmptied(t *testing.T) {
	f := oneServer(t)
	ctx, client := t.Context(), f.client(t)
	tokens, keys := f.tokens(t, client), f.keys(t, client)
	s := newSession("session")
	next := successor(s)
	for _, call := range []func() error{
		func() error { return keys.CreateApp(ctx, app()) },
		func() error { return keys.RotateSigningKey(ctx, testApp, newKey(t), base) },
		func() error { _, err := keys.App(ctx, testApp); return err },
		func() error { return tokens.CreateSession(ctx, s) },
		func() error { return tokens.Rotate(ctx, s.TokenID, next) },
		func() error { _, err := tokens.Session(ctx, testApp, s.ID); return err },
		func() error { _, err := tokens.SubjectSessions(ctx, testApp, s.Subject, base); return err },
		func() error { return tokens.RevokeSession(ctx, testApp, s.ID, base) },
		func() error { _, err := tokens.RevokeSubject(ctx, testApp, s.Subject, base); return err },
		func() error { _, err := tokens.DeleteExpired(ctx, base.AddDate(1, 0, 0), 10); return err },
	} {
		require.NoError(t, client.ScriptFlush(ctx).Err())
		require.NoError(t, call())
	}
}

// TestFilesHoldNoSecret promises that neither the append-only file nor a snapshot has a
// token, an app key, an idempotency key, a private key or the encryption key in it, in
// any usual form.
func TestFilesHoldNoSecret(t *testing.T) {
	f := oneServer(t)
	ctx, client := t.Context(), f.client(t)
	secrets := fleettest.StoreSecrets(t, f.stores(t, client))
	var stored []byte
	files := map[string]int{}
	// A snapshot compresses long texts, so that one is searched that does not.
	for _, compression := range []string{"yes", "no"} {
		require.NoError(t, client.ConfigSet(ctx, "rdbcompression", compression).Err())
		require.NoError(t, client.Save(ctx).Err())
		require.NoError(t, filepath.WalkDir(f.servers[0].Dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			stored = append(stored, text...)
			files[filepath.Ext(path)] += len(text)
			return err
		}))
	}
	require.Positive(t, files[".rdb"])
	require.Positive(t, files[".aof"])
	fleettest.RequireNoSecret(t, stored, secrets)
}
