package dynamostore_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/dynamostore"
	"github.com/jwtrenew/renew/internal/fleettest"
)

// plain is an item with texts and numbers as text, and without what is binary.
func plain(item row) map[string]string {
	out := map[string]string{}
	for name, v := range item {
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			out[name] = v.Value
		case *types.AttributeValueMemberN:
			out[name] = v.Value
		}
	}
	return out
}

// TestStoredAsText promises that an operator can read a session.
func TestStoredAsText(t *testing.T) {
	b := dynalite(t)
	s := successor(newSession("session"))
	s.EndsAt, s.RevokedAt = base.AddDate(900, 0, 0), base.Add(time.Second)
	s.RefreshExpiresAt = base.AddDate(800, 0, 0)
	require.NoError(t, b.tokens(t, b.client(t)).CreateSession(t.Context(), s))
	item := b.get(t, "session:3:app:session", "session")
	ends := s.RefreshExpiresAt.Unix() + 1
	month := int64(dynamostore.DefaultRetention / time.Second)
	require.Equal(t, map[string]string{
		"pk": "session:3:app:session", "sk": "session",
		"app": "app", "id": "session", "subject": "subject", "audience": `["a","b"]`, "claims": `{"n":9007199254740993}`,
		"created_at": "1767323045006", "ends_at": strconv.FormatInt(s.EndsAt.UnixMilli(), 10), "revoked_at": "1767323046006",
		"generation": "1", "token_id": s.TokenID, "previous_token_id": s.PreviousTokenID,
		"issued_at": "1767323105006", "refresh_not_before": "1767323105006",
		"refresh_expires_at": strconv.FormatInt(s.RefreshExpiresAt.UnixMilli(), 10),
		"live_until":         strconv.FormatInt(s.RefreshExpiresAt.UnixMilli(), 10),
		"expires_at":         strconv.FormatInt(ends+month, 10), "listed_until": strconv.FormatInt(ends+2*month, 10),
		"ip": "192.0.2.1", "user_agent": "test",
	}, plain(item))
	require.Equal(t, &types.AttributeValueMemberB{Value: s.IdempotencyKeyHash}, item["idempotency_key_hash"])
	require.Equal(t, map[string]string{
		"pk": "subject:3:app:subject", "sk": "session:session", "expires_at": strconv.FormatInt(ends+2*month, 10),
	}, plain(b.get(t, "subject:3:app:subject", "session:session")))
}

func seconds(t *testing.T, item row, name string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(plain(item)[name], 10, 64)
	require.NoError(t, err)
	return n
}

// TestRetention promises when DynamoDB may delete a session: the time of retention
// after its end, or after its last write if the end is in the past, and never with zero;
// and that the entry in its subject's list stays at least as long.
func TestRetention(t *testing.T) {
	b, ctx, now := dynalite(t), t.Context(), time.Now()
	for _, c := range []struct {
		name      string
		ends      time.Time
		retention time.Duration
		from      time.Time // of the retention; zero: for ever
	}{
		{"live", now.Add(time.Hour), dynamostore.DefaultRetention, now.Add(time.Hour)},
		{"ended long ago", now.AddDate(-1, 0, 0), 2 * time.Hour, now},
		{"for ever", now.Add(time.Hour), 0, time.Time{}},
		{"in centuries", now.AddDate(900, 0, 0), time.Hour, now.AddDate(900, 0, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.clear(t)
			store := b.tokens(t, b.client(t), dynamostore.WithRetention(c.retention))
			s := newSession("session")
			s.RefreshExpiresAt = c.ends
			check := func() {
				t.Helper()
				item, entry := b.get(t, "session:3:app:session", "session"), b.get(t, "subject:3:app:subject", "session:session")
				if c.from.IsZero() {
					require.NotContains(t, item, "expires_at")
					require.NotContains(t, item, "listed_until")
					require.NotContains(t, entry, "expires_at")
					return
				}
				require.InDelta(t, c.from.Add(c.retention).Unix(), seconds(t, item, "expires_at"), 60)
				require.Equal(t, seconds(t, item, "listed_until"), seconds(t, entry, "expires_at"))
				require.GreaterOrEqual(t, seconds(t, entry, "expires_at"), seconds(t, item, "expires_at"))
			}
			require.NoError(t, store.CreateSession(ctx, s))
			check()
			next := successor(s)
			next.RefreshExpiresAt = c.ends
			require.NoError(t, store.Rotate(ctx, s.TokenID, next))
			check()
			require.NoError(t, store.RevokeSession(ctx, testApp, s.ID, now))
			check()
		})
	}
}

// TestEntryIsWrittenAgain promises that the entry of a session in its subject's list
// stays longer than the session, however long that is renewed, and that few renewals pay
// for it; also when the retention is changed.
func TestEntryIsWrittenAgain(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	day := 24 * time.Hour
	s := newSession("session")
	s.IssuedAt = time.Now().Truncate(time.Millisecond).UTC()
	s.RefreshExpiresAt = s.IssuedAt.Add(day)
	require.NoError(t, b.tokens(t, b.client(t)).CreateSession(ctx, s))
	listed := func() (until, expires int64) {
		item, entry := b.get(t, "session:3:app:session", "session"), b.get(t, "subject:3:app:subject", "session:session")
		require.Equal(t, plain(item)["listed_until"], plain(entry)["expires_at"])
		if plain(item)["expires_at"] == "" {
			return 0, 0
		}
		return seconds(t, entry, "expires_at"), seconds(t, item, "expires_at")
	}
	rotate := func(opts ...dynamostore.Option) {
		next := successor(s)
		next.RefreshExpiresAt = s.RefreshExpiresAt.Add(day)
		require.NoError(t, b.tokens(t, b.client(t), opts...).Rotate(ctx, s.TokenID, next))
		s = next
	}
	changes, last := 0, int64(0)
	for range 100 {
		rotate()
		until, expires := listed()
		require.GreaterOrEqual(t, until, expires)
		if until != last {
			changes++
		}
		last = until
	}
	require.Equal(t, 4, changes, "once in 30 days")
	rotate(dynamostore.WithRetention(0))
	until, _ := listed()
	require.Zero(t, until)
	rotate(dynamostore.WithRetention(time.Hour))
	until, expires := listed()
	require.EqualValues(t, 3600, until-expires)
	all, err := b.tokens(t, b.client(t)).SubjectSessions(ctx, testApp, "subject", base)
	require.NoError(t, err)
	require.Equal(t, []renew.Session{s}, all)
}

// TestDeletedByDynamoDB promises that what the time to live deletes is gone for every
// method, whichever of the two items goes first.
func TestDeletedByDynamoDB(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	store := b.tokens(t, b.client(t))
	s := newSession("session")
	require.NoError(t, store.CreateSession(ctx, s))
	b.delete(t, "session:3:app:session", "session")
	listed, err := store.SubjectSessions(ctx, testApp, "subject", base)
	require.NoError(t, err)
	require.Empty(t, listed)
	n, err := store.RevokeSubject(ctx, testApp, "subject", base)
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = store.DeleteExpired(ctx, base.AddDate(1, 0, 0), 10)
	require.NoError(t, err)
	require.Zero(t, n)
	require.ErrorIs(t, store.Rotate(ctx, s.TokenID, successor(s)), renew.ErrSessionNotFound)
	require.ErrorIs(t, store.RevokeSession(ctx, testApp, s.ID, base), renew.ErrSessionNotFound)
	theirs := s
	theirs.Subject = "another"
	require.NoError(t, store.CreateSession(ctx, theirs))
	listed, err = store.SubjectSessions(ctx, testApp, "subject", base)
	require.NoError(t, err)
	require.Empty(t, listed, "the entry that was left leads to another's session")
	n, err = store.RevokeSubject(ctx, testApp, "subject", base)
	require.NoError(t, err)
	require.Zero(t, n)
	got, err := store.Session(ctx, testApp, s.ID)
	require.NoError(t, err)
	require.Equal(t, theirs, got)
	b.delete(t, "session:3:app:session", "session")
	b.delete(t, "subject:3:app:another", "session:session")
	require.NoError(t, store.CreateSession(ctx, s), "an entry that was left does no harm")
	b.delete(t, "subject:3:app:subject", "session:session")
	n, err = store.DeleteExpired(ctx, base.AddDate(1, 0, 0), 10)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Empty(t, b.scan(t))
}

// TestTextThatIsNotUTF8 promises that a field which is not valid UTF-8 comes back byte by
// byte, and that a name which is not is an error, or not found, and no other name.
func TestTextThatIsNotUTF8(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	store := b.tokens(t, b.client(t))
	s := newSession("session")
	s.UserAgent, s.TokenID = "a\xffb", "t\xff"
	require.NoError(t, store.CreateSession(ctx, s))
	got, err := store.Session(ctx, testApp, s.ID)
	require.NoError(t, err)
	require.Equal(t, s, got)
	require.ErrorIs(t, store.Rotate(ctx, "t\xfe", successor(s)), renew.ErrConflict)
	next := successor(s)
	require.NoError(t, store.Rotate(ctx, s.TokenID, next))
	for _, bad := range []renew.Session{newSession("session\xff"), newSession(string(make([]byte, 3000)))} {
		require.Error(t, store.CreateSession(ctx, bad))
		_, err = store.Session(ctx, testApp, bad.ID)
		require.ErrorIs(t, err, renew.ErrSessionNotFound)
		require.ErrorIs(t, store.RevokeSession(ctx, testApp, bad.ID, base), renew.ErrSessionNotFound)
	}
	all, err := store.SubjectSessions(ctx, testApp, "subject\xff", base)
	require.NoError(t, err)
	require.Empty(t, all)
}

// TestTableHoldsNoSecret promises that neither the items of the table nor the files of
// the emulator have a token, an app key, an idempotency key, a private key or the
// encryption key in them, in any usual form.
func TestTableHoldsNoSecret(t *testing.T) {
	b := dynalite(t)
	secrets := fleettest.StoreSecrets(t, b.stores(t, b.client(t)))
	items, files := b.everything(t)
	fleettest.RequireNoSecret(t, items, secrets)
	fleettest.RequireNoSecret(t, files, secrets)
}

// everything is what a scan of the table returns, and the emulator's files.
func (b *backend) everything(t *testing.T) (items, files []byte) {
	t.Helper()
	for _, item := range b.scan(t) {
		for _, v := range item {
			switch v := v.(type) {
			case *types.AttributeValueMemberB:
				items = append(items, v.Value...)
			case *types.AttributeValueMemberS:
				items = append(items, v.Value...)
			}
			text, err := json.Marshal(v) // binary values in base64, as they are in transit
			require.NoError(t, err)
			items = append(items, text...)
		}
	}
	require.NoError(t, filepath.WalkDir(b.emulator.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files = append(files, text...)
		return err
	}))
	return items, files
}
