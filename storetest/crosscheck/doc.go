// Package crosscheck has storetest's checker of histories judged by porcupine, a
// linearizability checker of good standing. It is a module of its own, so that
// nobody who uses storetest has to fetch it.
package crosscheck
