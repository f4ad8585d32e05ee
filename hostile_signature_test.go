package renew_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/jwtrenew/renew"
)

// ecNumbers are the two numbers of an ECDSA signature, and the order of its
// curve.
func ecNumbers(f *forge, signature []byte) (r, s, n *big.Int) {
	half := len(signature) / 2
	n = f.es().Signer().(*ecdsa.PrivateKey).Curve.Params().N
	return new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:]), n
}

func ecSignature(r, s *big.Int) []byte {
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

// twin returns the other ECDSA P-256 signature that is good for the same input:
// (r, n-s).
func twin(_ string, signature []byte) []byte {
	n, _ := new(big.Int).SetString("FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551", 16)
	s := new(big.Int).SetBytes(signature[32:])
	return append(slices.Clone(signature[:32]), s.Sub(n, s).FillBytes(make([]byte, 32))...)
}

// edOrder is the order of Ed25519's group (RFC 8032 section 5.1).
func edOrder() *big.Int {
	rest, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
	return rest.Add(rest, new(big.Int).Lsh(big.NewInt(1), 252))
}

func hostileSignatures() []hostileToken {
	return slices.Concat(hostileShapes(), hostileECDSA(), hostileEdDSA(), hostileRSA())
}

// hostileShapes are signatures of wrong shape, for each kind of key.
func hostileShapes() []hostileToken {
	var all []hostileToken
	for _, alg := range []renew.Algorithm{renew.ES256, renew.ES384, renew.ES512, renew.EdDSA, renew.RS256, renew.PS256} {
		for _, c := range []struct {
			name, why string
			change    func(signature []byte) []byte
		}{
			{"a byte short", "truncated", func(s []byte) []byte { return s[:len(s)-1] }},
			{"half of it", "truncated", func(s []byte) []byte { return s[:len(s)/2] }},
			{"one byte", "truncated", func(s []byte) []byte { return s[:1] }},
			{"a zero after", "extended", func(s []byte) []byte { return append(s, 0) }},
			{"a zero before", "extended", func(s []byte) []byte { return append([]byte{0}, s...) }},
			{"a zero in the middle", "extended: the same S, where all that follows R is S", func(s []byte) []byte { return slices.Insert(s, len(s)/2, 0) }},
			{"twice", "extended", func(s []byte) []byte { return append(s, s...) }},
			{"zeros", "a signature that is good for everything where zero is not refused", func(s []byte) []byte { return make([]byte, len(s)) }},
			{"ones", "numbers past every modulus", func(s []byte) []byte { return []byte(strings.Repeat("\xff", len(s))) }},
			{"its first bit turned", "changed", func(s []byte) []byte { s[0] ^= 0x80; return s }},
			{"its last bit turned", "changed", func(s []byte) []byte { s[len(s)-1] ^= 1; return s }},
			{"reversed", "the other byte order", func(s []byte) []byte { slices.Reverse(s); return s }},
		} {
			all = append(all, hostileToken{
				fmt.Sprintf("signature: %s, %s", alg, c.name), c.why, renew.ReasonSignature,
				func(f *forge) string {
					return f.resign(f.keys[alg], func(_ string, signature []byte) []byte { return c.change(signature) })
				},
			})
		}
		all = append(all, hostileToken{
			fmt.Sprintf("signature: %s, empty", alg), "no signature under a real algorithm", renew.ReasonMalformed,
			func(f *forge) string { return f.resign(f.keys[alg], func(string, []byte) []byte { return nil }) },
		}, hostileToken{
			fmt.Sprintf("signature: %s, of another payload", alg), "a good signature moved", renew.ReasonSignature,
			func(f *forge) string {
				return f.resign(f.keys[alg], func(input string, _ []byte) []byte {
					return rawSignature(alg, f.keys[alg].Signer(), input+"A")
				})
			},
		})
	}
	add := func(name, why string, make func(f *forge) string) {
		all = append(all, hostileToken{"signature: " + name, why, renew.ReasonSignature, make})
	}
	add("the auth token's", "the same session's other token", func(f *forge) string {
		header, payload, _ := f.segments()
		return header + "." + payload + "." + strings.Split(f.auth, ".")[2]
	})
	add("the auth token's payload under the refresh token's", "the same session's other token", func(f *forge) string {
		header, _, signature := f.segments()
		return header + "." + strings.Split(f.auth, ".")[1] + "." + signature
	})
	add("good, for a longer life", "the payload changed after signing", func(f *forge) string {
		header, _, signature := f.segments()
		return header + "." + encode(f.claims().with("exp", "9999999999").String()) + "." + signature
	})
	add("of the payload alone", "the header left out", func(f *forge) string {
		return f.resign(f.es(), func(input string, _ []byte) []byte {
			return rawSignature(renew.ES256, f.es().Signer(), strings.Split(input, ".")[1])
		})
	})
	add("of the decoded JSON", "signed before encoding", func(f *forge) string {
		return f.resign(f.es(), func(string, []byte) []byte {
			return rawSignature(renew.ES256, f.es().Signer(), f.header(f.es()).String()+"."+f.claims().String())
		})
	})
	add("of the header with its members in another order", "a header encoded again before it is verified", func(f *forge) string {
		signed := f.withHeader(f.header(f.es()).String())
		other := object{f.header(f.es())[2], f.header(f.es())[0], f.header(f.es())[1]}
		return encode(other.String()) + signed[strings.IndexByte(signed, '.'):]
	})
	return all
}

func hostileECDSA() []hostileToken {
	var all []hostileToken
	add := func(name, why string, change func(r, s, n *big.Int) []byte) {
		all = append(all, hostileToken{"signature: ECDSA, " + name, why, renew.ReasonSignature, func(f *forge) string {
			return f.resign(f.es(), func(_ string, signature []byte) []byte { return change(ecNumbers(f, signature)) })
		}})
	}
	zero, one := big.NewInt(0), big.NewInt(1)
	add("r zero", "CVE-2022-21449: zeros that verify", func(_, s, _ *big.Int) []byte { return ecSignature(zero, s) })
	add("s zero", "CVE-2022-21449: zeros that verify", func(r, _, _ *big.Int) []byte { return ecSignature(r, zero) })
	add("r the order", "zero by another name", func(_, s, n *big.Int) []byte { return ecSignature(n, s) })
	add("s the order", "zero by another name", func(r, _, n *big.Int) []byte { return ecSignature(r, n) })
	add("both the order", "zero by another name", func(_, _, n *big.Int) []byte { return ecSignature(n, n) })
	add("both one", "the smallest numbers in range", func(_, _, _ *big.Int) []byte { return ecSignature(one, one) })
	add("swapped", "s before r", func(r, s, _ *big.Int) []byte { return ecSignature(s, r) })
	add("r negated", "n-r", func(r, s, n *big.Int) []byte { return ecSignature(new(big.Int).Sub(n, r), s) })
	add("both negated", "n-r, n-s", func(r, s, n *big.Int) []byte {
		return ecSignature(new(big.Int).Sub(n, r), new(big.Int).Sub(n, s))
	})
	add("DER", "the form of TLS and of most libraries", func(r, s, _ *big.Int) []byte {
		der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		must(err)
		return der
	})
	add("in the width of P-384", "numbers with zeros before", func(r, s, _ *big.Int) []byte {
		return append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)
	})
	add("in hexadecimal", "encoded twice", func(r, s, _ *big.Int) []byte { return fmt.Appendf(nil, "%064x%064x", r, s) })
	return all
}

func hostileEdDSA() []hostileToken {
	var all []hostileToken
	add := func(name, why string, change func(f *forge, input string, signature []byte) []byte) {
		all = append(all, hostileToken{"signature: EdDSA, " + name, why, renew.ReasonSignature, func(f *forge) string {
			return f.resign(f.keys[renew.EdDSA], func(input string, signature []byte) []byte { return change(f, input, signature) })
		}})
	}
	add("S past the order", "RFC 8032 section 5.1.7: a second signature that verifies", func(_ *forge, _ string, signature []byte) []byte {
		little := slices.Clone(signature[32:])
		slices.Reverse(little)
		s := new(big.Int).SetBytes(little)
		big := s.Add(s, edOrder()).FillBytes(make([]byte, 32))
		slices.Reverse(big)
		return append(signature[:32], big...)
	})
	add("the neutral point and zero", "good for every message under a weak key", func(*forge, string, []byte) []byte {
		return append([]byte{1}, make([]byte, 63)...)
	})
	add("the halves swapped", "S before R", func(_ *forge, _ string, signature []byte) []byte {
		return append(slices.Clone(signature[32:]), signature[:32]...)
	})
	add("Ed25519ph", "the variant that hashes first", func(f *forge, input string, _ []byte) []byte {
		hash := crypto.SHA512.New()
		hash.Write([]byte(input))
		signature, err := f.keys[renew.EdDSA].Signer().Sign(nil, hash.Sum(nil), crypto.SHA512)
		must(err)
		return signature
	})
	return all
}

func hostileRSA() []hostileToken {
	var all []hostileToken
	add := func(alg renew.Algorithm, name, why string, change func(key *rsa.PrivateKey, input string, signature []byte) []byte) {
		all = append(all, hostileToken{"signature: " + string(alg) + ", " + name, why, renew.ReasonSignature, func(f *forge) string {
			key := f.keys[alg]
			return f.resign(key, func(input string, signature []byte) []byte {
				return change(key.Signer().(*rsa.PrivateKey), input, signature)
			})
		}})
	}
	number := func(n *big.Int) []byte { return n.FillBytes(make([]byte, 256)) }
	add(renew.RS256, "one", "its own power", func(*rsa.PrivateKey, string, []byte) []byte { return number(big.NewInt(1)) })
	add(renew.RS256, "the modulus", "zero by another name", func(key *rsa.PrivateKey, _ string, _ []byte) []byte { return number(key.N) })
	add(renew.RS256, "the modulus less one", "minus one", func(key *rsa.PrivateKey, _ string, _ []byte) []byte {
		return number(new(big.Int).Sub(key.N, big.NewInt(1)))
	})
	add(renew.RS256, "the modulus added", "the same number by another name", func(key *rsa.PrivateKey, _ string, signature []byte) []byte {
		s := new(big.Int).SetBytes(signature)
		return s.Add(s, key.N).Bytes()
	})
	pkcs := func(hash crypto.Hash, digestOf crypto.Hash) func(*rsa.PrivateKey, string, []byte) []byte {
		return func(key *rsa.PrivateKey, input string, _ []byte) []byte {
			h := digestOf.New()
			h.Write([]byte(input))
			signature, err := rsa.SignPKCS1v15(nil, key, hash, h.Sum(nil))
			must(err)
			return signature
		}
	}
	add(renew.RS256, "of another hash", "RS512's signature under the name of RS256", pkcs(crypto.SHA512, crypto.SHA512))
	add(renew.RS256, "without the hash's name", "no DigestInfo (RFC 8017 section 9.2)", pkcs(0, crypto.SHA256))
	add(renew.RS256, "PSS", "the other padding", func(key *rsa.PrivateKey, input string, _ []byte) []byte {
		return pssSignature(key, crypto.SHA256, input, rsa.PSSSaltLengthEqualsHash)
	})
	for name, salt := range map[string]int{"no salt": 0, "a short salt": 20, "a salt a byte too long": 33, "the longest salt": rsa.PSSSaltLengthAuto} {
		add(renew.PS256, name, "RFC 7518 section 3.5: the salt is as long as the hash", func(key *rsa.PrivateKey, input string, _ []byte) []byte {
			if salt == 0 { // zero stands for the longest
				return saltless(key, input)
			}
			return pssSignature(key, crypto.SHA256, input, salt)
		})
	}
	add(renew.PS256, "of another hash", "PS512's signature under the name of PS256", func(key *rsa.PrivateKey, input string, _ []byte) []byte {
		return pssSignature(key, crypto.SHA512, input, rsa.PSSSaltLengthEqualsHash)
	})
	return all
}

// saltless is a PSS signature without salt (RFC 8017 section 9.1.1), which the
// standard library verifies but has no option to make.
func saltless(key *rsa.PrivateKey, input string) []byte {
	sum := func(data ...[]byte) []byte {
		h := crypto.SHA256.New()
		for _, d := range data {
			h.Write(d)
		}
		return h.Sum(nil)
	}
	hash := sum(make([]byte, 8), sum([]byte(input)))
	block := make([]byte, 256-len(hash)-1)
	block[len(block)-1] = 1
	for i := 0; i < len(block); i += len(hash) {
		mask := sum(hash, []byte{0, 0, 0, byte(i / len(hash))})
		for j := i; j < min(i+len(hash), len(block)); j++ {
			block[j] ^= mask[j-i]
		}
	}
	block[0] &= 0x7f
	m := new(big.Int).SetBytes(slices.Concat(block, hash, []byte{0xbc}))
	return m.Exp(m, key.D, key.N).FillBytes(make([]byte, 256))
}
