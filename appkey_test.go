package renew_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

// The promise: an unknown app and a wrong app key take the same steps.
func TestWrongAppKeyTakesTheStepsOfAnUnknownApp(t *testing.T) {
	keys := &countedKeys{calls: map[string]int{}}
	f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { keys.KeyStore = s; return keys }}.new(t)
	for _, c := range []struct {
		appID, appKey string
		want          error
	}{
		{"app_1", "wrong", renew.ErrInvalidAppKey},
		{"app_1", "", renew.ErrInvalidAppKey},
		{"app_1", f.appKey[:42] + "!", renew.ErrInvalidAppKey},
		{"app_1", "!" + f.appKey[1:], renew.ErrInvalidAppKey},
		{"app_2", f.appKey, renew.ErrAppNotFound},
	} {
		keys.calls = map[string]int{}
		require.ErrorIs(t, f.AuthenticateApp(f.ctx, c.appID, c.appKey), c.want)
		require.Equal(t, map[string]int{"App": 1}, keys.calls)
	}
}

func TestAppKeys(t *testing.T) {
	one, hash := renew.NewAppKey()
	two, _ := renew.NewAppKey()
	require.NotEqual(t, one, two)
	again, err := renew.HashAppKey(one)
	require.NoError(t, err)
	require.Equal(t, hash, again)
	secret, err := base64.RawURLEncoding.DecodeString(one)
	require.NoError(t, err)
	require.Len(t, secret, 32)
}

func TestAuthenticateApp(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.AuthenticateApp(f.ctx, f.app.ID, f.appKey))
	for name, key := range map[string]string{"another": f.appKey + "x", "none": "", "the hash": f.app.KeyHashes[0].String(), "its digits": strings.TrimPrefix(f.app.KeyHashes[0].String(), "sha256:")} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, key), renew.ErrInvalidAppKey)
		})
	}
	t.Run("while a key is being replaced, both are valid", func(t *testing.T) {
		key, hash := renew.NewAppKey()
		require.Len(t, key, 43)
		require.NoError(t, f.store.AddAppKey(f.ctx, f.app.ID, hash))
		require.NoError(t, f.AuthenticateApp(f.ctx, f.app.ID, key))
		require.NoError(t, f.AuthenticateApp(f.ctx, f.app.ID, f.appKey))
		require.NoError(t, f.store.RemoveAppKey(f.ctx, f.app.ID, f.app.KeyHashes[0]))
		require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, f.appKey), renew.ErrInvalidAppKey)
	})
	t.Run("an app without keys rejects all callers", func(t *testing.T) {
		f.addApp("app_2", "issuer_2", nil)
		require.ErrorIs(t, f.AuthenticateApp(f.ctx, "app_2", ""), renew.ErrInvalidAppKey)
	})
	t.Run("an outage is not a wrong key", func(t *testing.T) {
		f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore {
			return &brokenKeys{KeyStore: s, app: func(*renew.App) error { return errOutage }}
		}}.new(t)
		err := f.AuthenticateApp(f.ctx, f.app.ID, f.appKey)
		requireInternal(t, err)
		require.ErrorIs(t, err, errOutage)
	})
}

// The promise: what anyone can guess, and what no header can carry, is not an app
// key, and the error says so where the key is hashed.
func TestAppKeysOfNoUse(t *testing.T) {
	const valid = "a-key-of-24-characters-x"
	for name, key := range map[string]string{
		"empty":                          "",
		"15 characters":                  valid[:15],
		"the line break of its file":     valid + "\n",
		"the line break of another file": valid + "\r\n",
		"a space before":                 " " + valid,
		"a tab after":                    valid + "\t",
		"a space inside":                 "a key of 24 characters x",
		"a letter beyond ASCII":          valid + "é",
		"NUL":                            valid + "\x00",
		"DEL":                            valid + "\x7f",
	} {
		t.Run(name, func(t *testing.T) {
			hash, err := renew.HashAppKey(key)
			require.Error(t, err)
			require.Zero(t, hash)
			if key != "" {
				require.NotContains(t, err.Error(), key)
			}
			f := newFixture(t)
			require.NoError(t, f.store.AddAppKey(f.ctx, f.app.ID, parseHash(t, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(key))))))
			require.NoError(t, f.store.AddAppKey(f.ctx, f.app.ID, parseHash(t, fmt.Sprintf("sha512:%x", sha512.Sum512([]byte(key))))))
			require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, key), renew.ErrInvalidAppKey, "its stored hash lets no one in")
		})
	}
	for _, key := range []string{valid, valid[:16], "!\"#$%&'()*+,-./0", strings.Repeat("k", 4096)} {
		hash, err := renew.HashAppKey(key)
		require.NoError(t, err)
		require.Equal(t, parseHash(t, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(key)))), hash)
	}
}

// An app whose hashes are zero, as a value that was never set, lets no one in.
func TestZeroHashIsNoKey(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.store.AddAppKey(f.ctx, f.app.ID, renew.AppKeyHash{}))
	for _, key := range []string{"", strings.Repeat("\x00", 32), strings.Repeat("0", 64)} {
		require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, key), renew.ErrInvalidAppKey)
	}
}

func parseHash(t *testing.T, text string) renew.AppKeyHash {
	t.Helper()
	hash, err := renew.ParseAppKeyHash(text)
	require.NoError(t, err)
	return hash
}

// The promise: the callers of a system that has kept SHA-512 hashes keep their app
// keys, beside callers with new ones.
func TestAppKeyOfAnotherSystem(t *testing.T) {
	f := newFixture(t)
	foreign := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\xfa\x0f!", 32)))
	require.Len(t, foreign, 128)
	hash := parseHash(t, fmt.Sprintf("sha512:%x", sha512.Sum512([]byte(foreign))))
	require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, foreign), renew.ErrInvalidAppKey)
	require.NoError(t, f.store.AddAppKey(f.ctx, f.app.ID, hash))
	require.NoError(t, f.AuthenticateApp(f.ctx, f.app.ID, foreign))
	require.NoError(t, f.AuthenticateApp(f.ctx, f.app.ID, f.appKey))
	require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, foreign+"="), renew.ErrInvalidAppKey)

	t.Run("a hash counts for its own scheme only", func(t *testing.T) {
		f := newFixture(t)
		sum := sha512.Sum512([]byte(foreign))
		require.NoError(t, f.store.AddAppKey(f.ctx, f.app.ID, parseHash(t, fmt.Sprintf("sha256:%x", sum[:32]))))
		short := sha256.Sum256([]byte(foreign))
		require.NoError(t, f.store.AddAppKey(f.ctx, f.app.ID, parseHash(t, fmt.Sprintf("sha512:%x%064d", short, 0))))
		require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, foreign), renew.ErrInvalidAppKey)
	})
	require.NoError(t, f.store.RemoveAppKey(f.ctx, f.app.ID, hash))
	require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, foreign), renew.ErrInvalidAppKey)
}

func TestParseAppKeyHash(t *testing.T) {
	digits := strings.Repeat("0123456789abcdef", 8)
	for _, text := range []string{"sha256:" + digits[:64], "sha512:" + digits, "sha256:" + strings.Repeat("0", 64)} {
		require.Equal(t, text, parseHash(t, text).String())
		require.Equal(t, text, parseHash(t, text[:7]+strings.ToUpper(text[7:])).String())
	}
	_, hash := renew.NewAppKey()
	require.Equal(t, hash, parseHash(t, hash.String()))
	require.NotEqual(t, parseHash(t, "sha256:"+strings.Repeat("0", 64)), parseHash(t, "sha512:"+strings.Repeat("0", 128)))
	for name, text := range map[string]string{
		"empty":                 "",
		"no scheme":             digits[:64],
		"a scheme without text": "sha256",
		"no digest":             "sha256:",
		"another scheme":        "md5:" + digits[:32],
		"SHA-256 in upper case": "SHA256:" + digits[:64],
		"a digit less":          "sha256:" + digits[:63],
		"a byte less":           "sha256:" + digits[:62],
		"a byte more":           "sha256:" + digits[:66],
		"the other's length":    "sha256:" + digits,
		"half a digest":         "sha512:" + digits[:64],
		"no hexadecimal digit":  "sha256:" + digits[:63] + "g",
		"a line break":          "sha256:" + digits[:64] + "\n",
		"two colons":            "sha256::" + digits[:63],
	} {
		t.Run(name, func(t *testing.T) {
			hash, err := renew.ParseAppKeyHash(text)
			require.ErrorContains(t, err, "app key hash: ")
			require.Zero(t, hash)
			require.NotContains(t, err.Error(), digits[:16])
		})
	}
}
