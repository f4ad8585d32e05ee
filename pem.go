package renew

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// ParseSigningKey returns the key of this ID, a canonical ULID, for this algorithm,
// whose private key is in PEM: PKCS #8 ("PRIVATE KEY"), PKCS #1 ("RSA PRIVATE
// KEY") or SEC 1 ("EC PRIVATE KEY", after its "EC PARAMETERS" or without them). The
// signer is then a private key of the standard library.
//
// The error is that of [NewSigningKey], or says that the PEM holds no private key,
// several keys, an encrypted key, or one of another kind. It never holds a part of
// the key. The caller may overwrite data afterwards.
func ParseSigningKey(keyID string, alg Algorithm, data []byte) (*SigningKey, error) {
	block, err := keyBlock(data)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	defer clear(block.Bytes)
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("signing key: %w", errBlock(block))
	}
	if err != nil {
		return nil, errors.New("signing key: the private key is malformed, or of a kind that is not supported")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("signing key: a %T does not sign", key)
	}
	return NewSigningKey(keyID, alg, signer)
}

// ParseVerificationKey returns the key of this ID, a canonical ULID, for this
// algorithm, whose public key is in PEM: PKIX ("PUBLIC KEY") or PKCS #1 ("RSA
// PUBLIC KEY"). PKIX is what [VerificationKey.PublicKey] is the base64 of.
//
// The error is that of [NewVerificationKey], or says that the PEM holds no public
// key, several keys, or one of another kind.
func ParseVerificationKey(keyID string, alg Algorithm, data []byte) (*VerificationKey, error) {
	block, err := keyBlock(data)
	if err != nil {
		return nil, fmt.Errorf("verification key: %w", err)
	}
	var key crypto.PublicKey
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return nil, fmt.Errorf("verification key: %w", errBlock(block))
	}
	if err != nil {
		return nil, errors.New("verification key: the public key is malformed, or of a kind that is not supported")
	}
	return NewVerificationKey(keyID, alg, key)
}

// keyBlock returns the one block of data that is a key. What stands before it is
// skipped (RFC 7468 section 2), and so are the parameters of a curve, which the key
// names again.
func keyBlock(data []byte) (*pem.Block, error) {
	var found *pem.Block
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type == "EC PARAMETERS" {
			continue
		}
		if found != nil {
			return nil, errors.New("the PEM holds several blocks")
		}
		found = block
	}
	switch {
	case found == nil:
		return nil, errors.New("there is no PEM block")
	case len(bytes.TrimSpace(data)) > 0:
		return nil, errors.New("the PEM block is followed by something else")
	case found.Type == "ENCRYPTED PRIVATE KEY", strings.Contains(found.Headers["Proc-Type"], "ENCRYPTED"):
		return nil, errors.New("the private key is encrypted: decrypt it first")
	}
	return found, nil
}

// errBlock says of a block of another kind what it is, without what is in it.
func errBlock(block *pem.Block) error {
	switch {
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return errors.New("the PEM block is a private key of another form")
	case strings.HasSuffix(block.Type, "PUBLIC KEY"):
		return errors.New("the PEM block is a public key")
	case block.Type == "CERTIFICATE":
		return errors.New("the PEM block is a certificate")
	}
	return errors.New("the PEM block is not a key")
}
