package memstore

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// filled returns a session with no field at its zero value, so that a field which
// is added to renew.Session later and not to the store fails a test.
func filled(t *testing.T) renew.Session {
	t.Helper()
	var s renew.Session
	fields := reflect.ValueOf(&s).Elem()
	for i := range fields.NumField() {
		field, name := fields.Field(i), fields.Type().Field(i).Name
		switch field.Interface().(type) {
		case string:
			field.SetString(name)
		case int64:
			field.SetInt(int64(1000 + i))
		case time.Time:
			field.Set(reflect.ValueOf(time.UnixMilli(1_700_000_000_123 + int64(i)).UTC()))
		case []byte:
			field.SetBytes([]byte(name))
		case json.RawMessage:
			field.SetBytes(fmt.Appendf(nil, `{"n":9007199254740993,"of":%q}`, name))
		case []string:
			field.Set(reflect.ValueOf([]string{name, "", "second"}))
		default:
			t.Fatalf("Session.%s is a %s: teach pack and this test about it", name, field.Type())
		}
	}
	return s
}

// T1: what CreateSession stored, Session returns, whatever shape it has.
func TestSessionComesBackAsItWas(t *testing.T) {
	for name, change := range map[string]func(*renew.Session){
		"every field":         func(*renew.Session) {},
		"nothing but the IDs": func(s *renew.Session) { *s = renew.Session{AppID: s.AppID, ID: s.ID} },
		"empty, not nil": func(s *renew.Session) {
			s.Audience, s.Claims, s.IdempotencyKeyHash = []string{}, json.RawMessage{}, []byte{}
		},
		"long values": func(s *renew.Session) {
			s.UserAgent = strings.Repeat("u", 1024)
			s.Claims = json.RawMessage(`{"c":"` + strings.Repeat("c", 16<<10) + `"}`)
			s.Audience = strings.Split(strings.Repeat("audience,", 300), ",")
		},
		"lengths around a byte of length": func(s *renew.Session) {
			s.TokenID, s.PreviousTokenID = strings.Repeat("t", 127), strings.Repeat("p", 128)
			s.Claims, s.IdempotencyKeyHash = make([]byte, 126), make([]byte, 127)
		},
		"times before 1970 and far away": func(s *renew.Session) {
			s.CreatedAt = time.Date(1, 1, 1, 0, 0, 0, 1e6, time.UTC)
			s.IssuedAt = time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC)
			s.EndsAt = time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)
			s.RefreshNotBefore = time.UnixMilli(0).UTC()
		},
		"numbers at their limits": func(s *renew.Session) { s.Generation = -1 << 63 },
		"IDs that could run into each other": func(s *renew.Session) {
			s.AppID, s.ID, s.Subject = "", "app\x00", ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := filled(t)
			change(&want)
			store := New()
			require.NoError(t, store.CreateSession(t.Context(), want))
			got, err := store.Session(t.Context(), want.AppID, want.ID)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

// T4: Rotate replaces the session as a whole.
func TestRotateReplacesEveryField(t *testing.T) {
	store := New()
	next := filled(t)
	require.NoError(t, store.CreateSession(t.Context(), renew.Session{AppID: next.AppID, ID: next.ID, TokenID: "first"}))
	require.NoError(t, store.Rotate(t.Context(), "first", next))
	got, err := store.Session(t.Context(), next.AppID, next.ID)
	require.NoError(t, err)
	require.Equal(t, next, got)
}

// T1: times come back in UTC and to the millisecond.
func TestTimesAreUTCAndMillis(t *testing.T) {
	store := New()
	s := filled(t)
	s.CreatedAt = time.Date(2026, 3, 1, 12, 0, 0, 123_999_999, time.FixedZone("east", 3*60*60))
	require.NoError(t, store.CreateSession(t.Context(), s))
	got, err := store.Session(t.Context(), s.AppID, s.ID)
	require.NoError(t, err)
	require.Equal(t, time.Date(2026, 3, 1, 9, 0, 0, 123e6, time.UTC), got.CreatedAt)
}
