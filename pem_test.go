package renew_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

func encodePEM(typ string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}))
}

// privatePEM returns a private key in PKCS #8.
func privatePEM(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return encodePEM("PRIVATE KEY", der)
}

func sec1PEM(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	return encodePEM("EC PRIVATE KEY", der)
}

// The promise: a key of every algorithm and form is the key that it was, in both
// halves.
func TestParseKeys(t *testing.T) {
	for _, alg := range []renew.Algorithm{renew.RS256, renew.PS512, renew.ES256, renew.ES384, renew.ES512, renew.EdDSA} {
		made := generate(t, alg)
		forms := map[string]string{"PKCS #8": privatePEM(t, made.Signer())}
		switch key := made.Signer().(type) {
		case *rsa.PrivateKey:
			forms["PKCS #1"] = encodePEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
		case *ecdsa.PrivateKey:
			forms["SEC 1"] = sec1PEM(t, key)
			forms["SEC 1 after its parameters"] = encodePEM("EC PARAMETERS", []byte{6, 0}) + sec1PEM(t, key)
		}
		for form, text := range forms {
			for ends, data := range map[string]string{
				"":                    text,
				" with DOS line ends": strings.ReplaceAll(text, "\n", "\r\n"),
				" after a comment":    "key of the shop\n" + text + "\n \t\n",
				" without line break": strings.TrimSuffix(text, "\n"),
			} {
				t.Run(string(alg)+", "+form+ends, func(t *testing.T) {
					key, err := renew.ParseSigningKey(made.KeyID(), alg, []byte(data))
					require.NoError(t, err)
					require.Equal(t, made.KeyID(), key.KeyID())
					require.Equal(t, made.VerificationKey(), key.VerificationKey())
					require.True(t, made.Signer().(interface{ Equal(crypto.PrivateKey) bool }).Equal(key.Signer()))
					f := fixtureConfig{key: key}.new(t)
					f.renew(f.issue())
				})
			}
		}
		t.Run(string(alg)+", public", func(t *testing.T) {
			text, err := base64.StdEncoding.DecodeString(made.VerificationKey().PublicKey())
			require.NoError(t, err)
			key, err := renew.ParseVerificationKey(made.KeyID(), alg, text)
			require.NoError(t, err)
			require.Equal(t, made.VerificationKey(), key)
			if public, ok := made.VerificationKey().Public().(*rsa.PublicKey); ok {
				key, err := renew.ParseVerificationKey(made.KeyID(), alg, []byte(encodePEM("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(public))))
				require.NoError(t, err)
				require.Equal(t, made.VerificationKey(), key)
			}
		})
	}
}

// The promise: what is not one key of the algorithm is an error that says what it
// is, and nothing of a private key is in it.
func TestParseKeysOfNoUse(t *testing.T) {
	id := ulid.Make().String()
	ec, other := generate(t, renew.ES256).Signer().(*ecdsa.PrivateKey), generate(t, renew.ES384).Signer().(*ecdsa.PrivateKey)
	private, sec1 := privatePEM(t, ec), sec1PEM(t, ec)
	publicDER, err := x509.MarshalPKIXPublicKey(ec.Public())
	require.NoError(t, err)
	public := encodePEM("PUBLIC KEY", publicDER)
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	xPublic, err := x509.MarshalPKIXPublicKey(x25519.PublicKey())
	require.NoError(t, err)
	block, _ := pem.Decode([]byte(private))
	cut := encodePEM("PRIVATE KEY", block.Bytes[:len(block.Bytes)-9])
	encrypted := string(pem.EncodeToMemory(&pem.Block{
		Type: "EC PRIVATE KEY", Bytes: bytes.Repeat([]byte{7}, 48),
		Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"},
	}))
	for name, c := range map[string]struct {
		keyID, data                    string
		signingSays, verificationsSays string
	}{
		"nothing":                        {id, "", "no PEM block", "no PEM block"},
		"text":                           {id, "secret", "no PEM block", "no PEM block"},
		"DER":                            {id, string(block.Bytes), "no PEM block", "no PEM block"},
		"base64 of PEM":                  {id, base64.StdEncoding.EncodeToString([]byte(private)), "no PEM block", "no PEM block"},
		"half of it":                     {id, private[:len(private)/2], "no PEM block", "no PEM block"},
		"another half":                   {id, private[len(private)/2:], "no PEM block", "no PEM block"},
		"its encoding cut short":         {id, cut, "malformed", "is a private key"},
		"an empty block":                 {id, encodePEM("PRIVATE KEY", nil), "malformed", "is a private key"},
		"SEC 1 named PKCS #8":            {id, strings.ReplaceAll(sec1, "EC PRIVATE", "PRIVATE"), "malformed", "is a private key"},
		"two keys":                       {id, private + sec1, "several blocks", "several blocks"},
		"both halves":                    {id, private + public, "several blocks", "several blocks"},
		"a key and text":                 {id, private + "more", "followed by", "followed by"},
		"a public key":                   {id, public, "is a public key", ""},
		"a certificate":                  {id, encodePEM("CERTIFICATE", publicDER), "certificate", "certificate"},
		"something else":                 {id, encodePEM("X509 CRL", publicDER), "not a key", "not a key"},
		"the parameters of a curve":      {id, encodePEM("EC PARAMETERS", []byte{6, 0}), "no PEM block", "no PEM block"},
		"an OpenSSH key":                 {id, encodePEM("OPENSSH PRIVATE KEY", []byte("openssh-key-v1")), "another form", "another form"},
		"encrypted PKCS #8":              {id, encodePEM("ENCRYPTED PRIVATE KEY", []byte("x")), "encrypted", "encrypted"},
		"encrypted SEC 1":                {id, encrypted, "encrypted", "encrypted"},
		"a key that does not sign":       {id, privatePEM(t, x25519), "does not sign", "is a private key"},
		"a public one that does not":     {id, encodePEM("PUBLIC KEY", xPublic), "is a public key", "valid key type"},
		"a public key that is malformed": {id, encodePEM("PUBLIC KEY", publicDER[:50]), "is a public key", "malformed"},
		"a key of another curve":         {id, privatePEM(t, other), "not on P-256", "is a private key"},
		"a key ID that is no ULID":       {"key 1", private, "key ID", "is a private key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := renew.ParseSigningKey(c.keyID, renew.ES256, []byte(c.data))
			require.ErrorContains(t, err, "signing key")
			require.ErrorContains(t, err, c.signingSays)
			require.NotContains(t, err.Error(), private[40:60])
			_, err = renew.ParseVerificationKey(c.keyID, renew.ES256, []byte(c.data))
			if c.verificationsSays == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "verification key")
			require.ErrorContains(t, err, c.verificationsSays)
		})
	}
}
