// Package storetest proves stores: it holds a [renew.TokenStore] or a
// [renew.KeyStore] to its laws.
package storetest
