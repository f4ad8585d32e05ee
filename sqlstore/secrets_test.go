package sqlstore_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/sqlstore"
)

// TestDumpHoldsNoSecret promises that whoever has the database, its dump, or all
// files of its server with every log, has no token, no app key, no idempotency
// key and no private key.
func TestDumpHoldsNoSecret(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		renewals := min(1000, rounds.Of(t, 200))
		db := d.open(t)
		d.migrate(t, db)
		keys := d.keyStore(t, db, sqlstore.WithStatusInterval(time.Hour))
		appKey, hash := renew.NewAppKey()
		require.NoError(t, keys.CreateApp(ctx, renew.App{ID: testApp, Issuer: "issuer", KeyHashes: []renew.AppKeyHash{hash}}))
		secrets := map[string][]byte{"the app key": []byte(appKey), "the encryption key": encryptionKey(1)}
		for range 2 { // an active one, and one that was replaced
			key := newKey(t, renew.ES256)
			require.NoError(t, keys.RotateSigningKey(ctx, testApp, key, time.Now()))
			addPrivateKey(t, secrets, key)
		}
		r, err := renew.New(keys, d.tokenStore(t, db))
		require.NoError(t, err)
		b, err := r.Issue(ctx, renew.IssueRequest{AppID: testApp, Subject: "subject-in-the-dump", IP: "192.0.2.1", UserAgent: "test"})
		require.NoError(t, err)
		addToken(secrets, b)
		for range renewals {
			idempotencyKey, _ := renew.NewAppKey()
			secrets["an idempotency key "+idempotencyKey[:4]] = []byte(idempotencyKey)
			b, err = r.Renew(ctx, renew.RenewRequest{AppID: testApp, RefreshToken: b.RefreshToken, IP: "192.0.2.1", UserAgent: "test", IdempotencyKey: idempotencyKey})
			require.NoError(t, err)
			addToken(secrets, b)
		}
		search := newSearch(secrets)
		dumps := d.dumps(t)
		for name, dump := range dumps {
			for _, what := range search.in(dump) {
				t.Errorf("%s is in %s", what, name)
			}
		}
		if d.server != nil {
			require.Contains(t, string(dumps["dump"]), "subject-in-the-dump", "the dump is one of this database")
			require.Contains(t, string(dumps["dump"]), b.TokenID)
		}
	})
}

func addToken(secrets map[string][]byte, b *renew.Bundle) {
	for kind, token := range map[string]string{"auth token ": b.AuthToken, "refresh token ": b.RefreshToken} {
		segments := strings.Split(token, ".")
		secrets[kind+b.TokenID] = []byte(segments[1])
		secrets["signature of "+kind+b.TokenID] = []byte(segments[2])
	}
}

// addPrivateKey adds the number that is the key, and the form that it is stored
// in before it is encrypted.
func addPrivateKey(t *testing.T, secrets map[string][]byte, key *renew.SigningKey) {
	t.Helper()
	private := key.Signer().(*ecdsa.PrivateKey)
	number, err := private.Bytes()
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	secrets["private key "+keyID(key)] = number
	secrets["PKCS #8 of "+keyID(key)] = der
	secrets["PEM of "+keyID(key)] = bytes.Split(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), []byte("\n"))[1]
}

// dumps returns the database in every form that may fall into wrong hands: as the
// database's own tool writes it, and as its files.
func (d *database) dumps(t *testing.T) map[string][]byte {
	t.Helper()
	dumps := map[string][]byte{}
	var command []string
	dir := filepath.Dir(d.name)
	switch d.dialect {
	case sqlstore.PostgreSQL:
		dir = d.server.Dir(t)
		command = []string{"pg_dump", "-h", dir, "-U", "postgres", d.name}
	case sqlstore.MySQL:
		dir = d.server.Dir(t)
		command = []string{"mariadb-dump", "--no-defaults", "-uroot", "--socket=" + filepath.Join(dir, "socket"), d.name}
	default:
	}
	if command != nil {
		output, err := d.server.Command(t, command[0], command[1:]...).Output()
		require.NoError(t, err)
		dumps["dump"] = output
	}
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // the server is at work
			return nil
		case err != nil:
			return err
		case entry.IsDir() && d.isOfAnother(t, path):
			return fs.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		dumps[path] = content
		return err
	}))
	require.NotEmpty(t, dumps)
	return dumps
}

// isOfAnother reports whether the folder holds nothing but the tables of another
// database.
func (d *database) isOfAnother(t *testing.T, path string) bool {
	t.Helper()
	parent, own := filepath.Base(filepath.Dir(path)), d.name
	switch d.dialect {
	case sqlstore.PostgreSQL:
		require.NoError(t, d.open(t).QueryRow("SELECT oid FROM pg_database WHERE datname = $1", d.name).Scan(&own))
		return parent == "base" && filepath.Base(path) != own
	case sqlstore.MySQL:
		return parent == "data" && filepath.Base(path) != own
	default:
		return false
	}
}

// search looks for many secrets at once, as they are and in the forms in which
// databases write bytes.
type search struct {
	forms map[[searchedBytes]byte][]searched // by their beginning
	pairs [1 << 16]bool                      // the first two bytes of each
}

// searchedBytes is how many bytes of a form lead to it.
const searchedBytes = 12

type searched struct {
	name string
	form []byte
}

func newSearch(secrets map[string][]byte) *search {
	s := &search{forms: map[[searchedBytes]byte][]searched{}}
	for name, secret := range secrets {
		inHex := hex.EncodeToString(secret)
		for _, form := range []string{string(secret), inHex, strings.ToUpper(inHex), base64.StdEncoding.EncodeToString(secret)} {
			beginning := [searchedBytes]byte([]byte(form))
			s.forms[beginning] = append(s.forms[beginning], searched{name, []byte(form)})
			s.pairs[binary.BigEndian.Uint16(beginning[:])] = true
		}
	}
	return s
}

func (s *search) in(dump []byte) (names []string) {
	for i := 0; i+searchedBytes <= len(dump); i++ {
		if !s.pairs[int(dump[i])<<8|int(dump[i+1])] {
			continue
		}
		for _, candidate := range s.forms[[searchedBytes]byte(dump[i:])] {
			if bytes.HasPrefix(dump[i:], candidate.form) {
				names = append(names, candidate.name)
			}
		}
	}
	return names
}

// TestSearchFinds shows that the search above can fail.
func TestSearchFinds(t *testing.T) {
	secrets := map[string][]byte{"one": []byte("a secret of some length"), "two": []byte("a secret of another length")}
	s := newSearch(secrets)
	for name, dump := range map[string]string{
		"as it is": "xxa secret of some length",
		"hex":      "\\x" + hex.EncodeToString(secrets["one"]),
		"HEX":      "0x" + strings.ToUpper(hex.EncodeToString(secrets["one"])),
		"base64":   base64.StdEncoding.EncodeToString(secrets["one"]) + "=",
	} {
		require.Equal(t, []string{"one"}, s.in([]byte(dump)), name)
	}
	require.Empty(t, s.in([]byte("a secret of some len")))
}
