// Package crosscheck has storetest's checker of histories judged by porcupine, a
// linearizability checker of good standing. It is a separate module, so that
// users of storetest need not fetch it.
package crosscheck
