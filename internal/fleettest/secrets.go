package fleettest

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// Subject is in what is stored after StoreSecrets: it shows that the right thing is
// searched.
const Subject = "the subject that is there"

// StoreSecrets uses the stores with all kinds of secrets, and returns these by name.
func StoreSecrets(t *testing.T, st Stores) map[string][]byte {
	t.Helper()
	ctx := t.Context()
	appKey, hash := renew.NewAppKey()
	secrets := map[string][]byte{"encryption key": EncryptionKey(), "app key": []byte(appKey)}
	app := App()
	app.KeyHashes = []renew.AppKeyHash{hash}
	require.NoError(t, st.Keys.CreateApp(ctx, app))
	for i, alg := range []renew.Algorithm{renew.ES256, renew.EdDSA, renew.RS256} {
		key, err := renew.GenerateSigningKey(alg)
		require.NoError(t, err)
		if i == 0 {
			require.NoError(t, st.Keys.PublishSigningKey(ctx, AppID, key))
		}
		require.NoError(t, st.Keys.RotateSigningKey(ctx, AppID, key, time.Now()))
		der, err := x509.MarshalPKCS8PrivateKey(key.Signer())
		require.NoError(t, err)
		switch alg {
		case renew.ES256:
			secrets["private key ES256"] = der[36:68] // the scalar
		case renew.EdDSA:
			secrets["private key EdDSA"] = der[len(der)-32:]
		default:
			secrets["private key RS256"] = der[300:400]
		}
	}
	renewer, err := renew.New(st.Keys, st.Tokens)
	require.NoError(t, err)
	b, err := renewer.Issue(ctx, renew.IssueRequest{AppID: AppID, Subject: Subject, IP: "192.0.2.1", UserAgent: "test"})
	require.NoError(t, err)
	for range 3 {
		key := NewIdempotencyKey()
		secrets["auth token "+key], secrets["refresh token "+key] = []byte(b.AuthToken), []byte(b.RefreshToken)
		secrets["signature "+key] = []byte(b.RefreshToken[len(b.RefreshToken)-40:])
		secrets["idempotency key "+key] = []byte(key)
		b, err = renewer.Renew(ctx, renew.RenewRequest{AppID: AppID, RefreshToken: b.RefreshToken, IP: "192.0.2.1", UserAgent: "test", IdempotencyKey: key})
		require.NoError(t, err)
	}
	return secrets
}

// RequireNoSecret checks that what is stored has no secret in it, in any usual form.
func RequireNoSecret(t *testing.T, stored []byte, secrets map[string][]byte) {
	t.Helper()
	require.True(t, bytes.Contains(stored, []byte(Subject)), "this is not what is stored")
	for name, secret := range secrets {
		for form, text := range map[string]string{
			"plain": string(secret), "hexadecimal": hex.EncodeToString(secret),
			"base64":          base64.StdEncoding.EncodeToString(secret)[:len(secret)],
			"base64 for URLs": base64.RawURLEncoding.EncodeToString(secret)[:len(secret)],
		} {
			require.False(t, bytes.Contains(stored, []byte(text)), "%s is stored, %s", name, form)
		}
	}
}
