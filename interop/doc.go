// Package interop holds tests only: what other JOSE libraries make of this
// project's tokens, and this project of theirs.
//
// golang-jwt, jwx and Node's own crypto share no code with go-jose, which
// package renew signs and verifies with. Where all of them agree on a token, in
// both directions and for every algorithm, it is the RFCs' and not one
// library's. Node is what the documentation promises to front ends: the
// public_key of a response is enough to verify its auth token.
package interop
