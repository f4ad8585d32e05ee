package sessionfields_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/fleettest"
	"github.com/jwtrenew/renew/internal/sessionfields"
)

// record keeps fields in memory.
type record map[string]any

func (r record) Text(name, value string)         { r[name] = value }
func (r record) Number(name string, n int64)     { r[name] = n }
func (r record) Bytes(name string, value []byte) { r[name] = slices.Clone(value) }

type stored struct{ record }

func field[T any](r record, name string) (T, bool) {
	value, ok := r[name].(T)
	return value, ok
}

func (s stored) Has(name string) bool             { return s.record[name] != nil }
func (s stored) Text(name string) (string, bool)  { return field[string](s.record, name) }
func (s stored) Number(name string) (int64, bool) { return field[int64](s.record, name) }
func (s stored) Bytes(name string) ([]byte, bool) { return field[[]byte](s.record, name) }

func full() renew.Session {
	s := fleettest.Successor(fleettest.NewSession("session"))
	s.EndsAt, s.RevokedAt = fleettest.Base.AddDate(1, 0, 0), fleettest.Base.AddDate(0, 0, 1)
	return s
}

// TestRoundTrip promises that a session comes back as it was, with every field and
// without those that it may lack, and that All and Optional name these.
func TestRoundTrip(t *testing.T) {
	bare := full()
	bare.Audience, bare.Claims, bare.EndsAt, bare.RevokedAt, bare.IdempotencyKeyHash = nil, nil, time.Time{}, time.Time{}, nil
	for name, s := range map[string]renew.Session{"full": full(), "bare": bare} {
		r := record{}
		require.NoError(t, sessionfields.Write(s, r))
		want := sessionfields.All()
		if name == "bare" {
			want = slices.DeleteFunc(want, func(field string) bool { return slices.Contains(sessionfields.Optional(), field) })
		}
		require.Len(t, r, len(want), name)
		for _, field := range want {
			require.Contains(t, r, field, name)
		}
		got, err := sessionfields.Read(stored{r})
		require.NoError(t, err)
		require.Equal(t, s, got)
	}
	s := full()
	s.Audience = []string{"\xff"}
	require.ErrorContains(t, sessionfields.Write(s, record{}), "UTF-8")
}

// TestMalformed promises an error that names the field and not its value, for each field.
func TestMalformed(t *testing.T) {
	for _, name := range sessionfields.All() {
		r := record{}
		require.NoError(t, sessionfields.Write(full(), r))
		r[name] = struct{ secret string }{"secret"}
		_, err := sessionfields.Read(stored{r})
		require.ErrorContains(t, err, name)
		require.NotContains(t, err.Error(), "secret")
	}
	r := record{}
	require.NoError(t, sessionfields.Write(full(), r))
	r[sessionfields.Audience] = "secret"
	_, err := sessionfields.Read(stored{r})
	require.ErrorContains(t, err, sessionfields.Audience)
	require.NotContains(t, err.Error(), "secret")
}
