package memstore

import "maps"

// table is a map that gives memory back: a map of Go keeps what it took at its
// fullest, so that one day's rush would stay forever. The zero value is empty.
type table[K comparable, V any] struct {
	entries map[K]V
	fullest int // since entries was made
}

// tooSmall is the room of a table, or a queue, that is not worth shrinking.
const tooSmall = 64

func (t *table[K, V]) get(key K) V { return t.entries[key] }

func (t *table[K, V]) set(key K, value V) {
	if t.entries == nil {
		t.entries = make(map[K]V)
	}
	t.entries[key] = value
	t.fullest = max(t.fullest, len(t.entries))
}

// delete copies the last quarter to a new map when the rest is gone: less than
// one entry for each that was deleted.
func (t *table[K, V]) delete(key K) {
	delete(t.entries, key)
	if t.fullest <= tooSmall || len(t.entries) > t.fullest/4 {
		return
	}
	t.fullest = len(t.entries)
	smaller := make(map[K]V, len(t.entries))
	maps.Copy(smaller, t.entries)
	t.entries = smaller
}
