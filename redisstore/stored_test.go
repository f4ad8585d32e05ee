package redisstore_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/redisstore"
)

func app() renew.App { return renew.App{ID: testApp, Issuer: "https://issuer.example"} }

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
	require.Equal(t, map[string]string{
		"app": "app", "id": "session", "subject": "subject", "audience": `["a","b"]`, "claims": `{"n":9007199254740993}`,
		"created_at": "1767323045006", "ends_at": "1767409445006", "revoked_at": "1767323046006",
		"generation": "1", "token_id": s.TokenID, "previous_token_id": s.PreviousTokenID,
		"issued_at": "1767323105006", "refresh_not_before": "1767323105006", "refresh_expires_at": "1767326705006",
		"idempotency_key_hash": hex.EncodeToString(s.IdempotencyKeyHash), "ip": "192.0.2.1", "user_agent": "test",
	}, fields)
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
// entries that DeleteExpired and a listing tidy, and that are not counted.
func TestDeletedByRedis(t *testing.T) {
	f := oneServer(t)
	ctx, client := t.Context(), f.client(t)
	store := f.tokens(t, client)
	require.NoError(t, store.CreateSession(ctx, newSession("session")))
	keys, err := client.Keys(ctx, "*:session:*").Result()
	require.NoError(t, err)
	require.NoError(t, client.Del(ctx, keys...).Err()) // what the end of the retention does
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
	keys, tokens := f.keys(t, client), f.tokens(t, client)
	secrets := map[string][]byte{"encryption key": encryptionKey()}
	appKey, hash := renew.NewAppKey()
	secrets["app key"] = []byte(appKey)
	a := app()
	a.KeyHashes = []renew.AppKeyHash{hash}
	require.NoError(t, keys.CreateApp(ctx, a))
	for i, alg := range []renew.Algorithm{renew.ES256, renew.EdDSA, renew.RS256} {
		key, err := renew.GenerateSigningKey(alg)
		require.NoError(t, err)
		if i == 0 {
			require.NoError(t, keys.PublishSigningKey(ctx, testApp, key))
		}
		require.NoError(t, keys.RotateSigningKey(ctx, testApp, key, time.Now()))
		der, err := x509.MarshalPKCS8PrivateKey(key.Signer())
		require.NoError(t, err)
		secrets["private key "+string(alg)] = der[len(der)-32:]
		if alg == renew.RS256 {
			secrets["private key RS256"] = der[300:400]
		}
		if alg == renew.ES256 {
			secrets["private key ES256"] = der[36:68] // the scalar
		}
	}
	renewer, err := renew.New(keys, tokens)
	require.NoError(t, err)
	b, err := renewer.Issue(ctx, renew.IssueRequest{AppID: testApp, Subject: "the subject that is there", IP: "192.0.2.1", UserAgent: "test"})
	require.NoError(t, err)
	for range 3 {
		key := newIdempotencyKey()
		secrets["auth token "+key], secrets["refresh token "+key] = []byte(b.AuthToken), []byte(b.RefreshToken)
		secrets["signature "+key] = []byte(b.RefreshToken[len(b.RefreshToken)-40:])
		secrets["idempotency key "+key] = []byte(key)
		b, err = renewer.Renew(ctx, renew.RenewRequest{AppID: testApp, RefreshToken: b.RefreshToken, IP: "192.0.2.1", UserAgent: "test", IdempotencyKey: key})
		require.NoError(t, err)
	}
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
	require.True(t, bytes.Contains(stored, []byte("the subject that is there")), "the files are not those of the data")
	for name, secret := range secrets {
		for form, text := range map[string]string{
			"plain": string(secret), "hexadecimal": hex.EncodeToString(secret), "base64": base64.StdEncoding.EncodeToString(secret)[:len(secret)],
			"base64 for URLs": base64.RawURLEncoding.EncodeToString(secret)[:len(secret)],
		} {
			require.False(t, bytes.Contains(stored, []byte(text)), "%s is stored, %s", name, form)
		}
	}
}
