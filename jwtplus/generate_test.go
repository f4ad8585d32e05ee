package jwtplus_test

import (
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// The app and the signing key that generated tokens are of.
const (
	generatedApp = "01M894QFJYJYD9SC7NDRADYBPY"
	generatedKey = "01M894SDNQ3FY52ARTG0KTFFBT"

	issuedAt  = 1795603347
	expiresAt = issuedAt + 30_000_000
)

// generated is a session of a generated database.
type generated struct{ tokenID, refreshToken, subject string }

// generate adds n sessions, each with tokens that JWTPlus could have signed.
func (f fixture) generate(tb testing.TB, d *oldDatabase, n int) []generated {
	tb.Helper()
	sign := f.signer(tb)
	all := make([]generated, n)
	const perInsert = 500
	columns := `token_id, apps_id, key_id, sub, auth_token, refresh_token, refresh_token_iat, refresh_token_nbf, refresh_token_exp, ip_address, user_agent`
	for first := 0; first < n; first += perInsert {
		var values []string
		var args []any
		for i := first; i < min(first+perInsert, n); i++ {
			g := generated{tokenID: generatedID(i), subject: fmt.Sprintf("user-%d", i)}
			g.refreshToken = sign(record{
				"iss": "fixture-es256", "iat": issuedAt, "nbf": issuedAt + 60, "exp": expiresAt, "jid": g.tokenID, "type": "refresh",
			})
			auth := sign(record{
				"iss": "fixture-es256", "iat": issuedAt, "nbf": issuedAt, "exp": issuedAt + 3600, "jid": g.tokenID,
				"sub": g.subject, "aud": "web", "ip": "192.0.2.1", "useragent": "generated", "n": i, "price": json.Number("1.10"),
			})
			values = append(values, "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
			args = append(args, g.tokenID, generatedApp, generatedKey, sha512Hex(g.subject), auth, g.refreshToken,
				issuedAt, issuedAt+60, expiresAt, "192.0.2.1", "generated")
			all[i] = g
		}
		d.exec("INSERT INTO tokens ("+columns+") VALUES "+strings.Join(values, ", "), args...)
	}
	return all
}

func generatedID(i int) string {
	var entropy [10]byte
	binary.BigEndian.PutUint64(entropy[2:], uint64(i))
	var id ulid.ULID
	if err := id.SetTime(issuedAt * 1000); err != nil {
		panic(err)
	}
	copy(id[6:], entropy[:])
	return id.String()
}

func sha512Hex(text string) string {
	hash := sha512.Sum512([]byte(text))
	return hex.EncodeToString(hash[:])
}

// signer signs claims as JWTPlus does, with the active key of the generated app.
func (f fixture) signer(tb testing.TB) func(record) string {
	tb.Helper()
	private, err := base64.StdEncoding.DecodeString(f.row(tb, "app_keys", "key_id", generatedKey).text("private_key"))
	require.NoError(tb, err)
	key, err := renew.ParseSigningKey(generatedKey, renew.ES256, private)
	require.NoError(tb, err)
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key.Signer(), KeyID: generatedKey}},
		(&jose.SignerOptions{}).WithType("JWT"))
	require.NoError(tb, err)
	return func(claims record) string {
		payload, err := json.Marshal(claims)
		require.NoError(tb, err)
		jws, err := signer.Sign(payload)
		require.NoError(tb, err)
		token, err := jws.CompactSerialize()
		require.NoError(tb, err)
		return token
	}
}
