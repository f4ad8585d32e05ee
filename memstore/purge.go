package memstore

import (
	"container/heap"
	"context"
	"slices"
	"time"
)

// queue is a heap of the shard's sessions, the first to end on top.
//
// A renewal puts a session's end off and leaves the queue as it is: an entry may
// be early, never late. Deletion meets the early ones on top and puts them where
// they belong, so that a session costs the queue one step per lifetime, not one
// per renewal.
type queue []queued

type queued struct {
	ends   millis // not after record.ends
	record *record
}

// moved says that the end of r has changed.
func (q *queue) moved(r *record) {
	if entry := &(*q)[r.place]; r.ends < entry.ends {
		entry.ends = r.ends
		heap.Fix(q, r.place)
	}
}

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].ends < q[j].ends }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].record.place, q[j].record.place = i, j
}

// Push is for container/heap alone.
func (q *queue) Push(entry any) {
	e := entry.(queued)
	e.record.place = len(*q)
	*q = append(*q, e)
}

// Pop is for container/heap alone.
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = queued{}
	*q = (*q)[:last]
	if cap(*q) > tooSmall && last < cap(*q)/4 {
		*q = slices.Clone(*q)
	}
	e.record.place = -1
	return e
}

// stepsPerLock is how many sessions a deletion looks at before it lets waiting
// renewals through.
const stepsPerLock = 64

// DeleteExpired deletes sessions of which [renew.Session.EndedBefore] is true, at
// most limit, and returns how many; fewer than limit means that none is left. A
// limit below 1 deletes nothing.
//
// It does not scan: it looks at a live session once per lifetime. Renewals wait
// for it no longer than a few dozen sessions take, or now and then, when most of a
// shard is deleted, the copying of what is left. If the context ends before it is
// done, the error is the context's and the number that of the sessions deleted so
// far.
func (s *Store) DeleteExpired(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	n := 0
	for i := range s.shards {
		for more := true; more && n < limit; {
			if err := ctx.Err(); err != nil {
				return n, err
			}
			var deleted int
			deleted, more = s.deleteSome(&s.shards[i], before, min(limit-n, stepsPerLock))
			n += deleted
		}
	}
	return n, nil
}

// deleteSome takes that many steps, and reports whether there may be more to do.
func (s *Store) deleteSome(sh *shard, before time.Time, steps int) (deleted int, more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for range steps {
		if len(sh.queue) == 0 || !sh.queue[0].ends.time().Before(before) {
			return deleted, false
		}
		r := sh.queue[0].record
		if sh.queue[0].ends < r.ends {
			sh.queue[0].ends = r.ends
			heap.Fix(&sh.queue, 0)
			continue
		}
		heap.Pop(&sh.queue)
		sh.records.delete(r.key)
		s.subjectShard(r.subject).remove(r)
		deleted++
	}
	return deleted, true
}
