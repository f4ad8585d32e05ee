package storetest

import (
	"context"
	"crypto/md5" //nolint:gosec // stores do this
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/adler32"
	"hash/crc32"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
)

// namedCall is a call of a method of a store.
type namedCall struct {
	method string
	call   func(ctx context.Context) error
}

// isNamed reports whether the laws name this error.
func isNamed(err error) bool {
	return slices.ContainsFunc(lawErrors, func(named namedError) bool { return errors.Is(err, named.err) })
}

// doneContexts are a canceled context and one whose deadline has passed.
func doneContexts(parent context.Context) []context.Context {
	canceled, cancel := context.WithCancel(parent)
	cancel()
	late, cancel := context.WithDeadline(parent, time.Now().Add(-time.Second))
	cancel()
	return []context.Context{canceled, late}
}

// isContextError reports whether err says that the context has ended: as errors.Is
// shows, or in words, as a status of gRPC or an error of a database does.
func isContextError(ctx context.Context, err error) bool {
	if err == nil || isNamed(err) {
		return false
	}
	text := strings.ToLower(err.Error())
	return errors.Is(err, ctx.Err()) || strings.Contains(text, "cancel") || strings.Contains(text, "deadline")
}

// fuse is a context that ends when it is looked at for the n-th time, so that a
// call ends at each place where the store looks.
type fuse struct {
	context.Context
	left  atomic.Int32
	ended context.CancelFunc
}

func newFuse(parent context.Context, n int) (context.Context, context.CancelFunc) {
	inner, cancel := context.WithCancel(parent)
	f := &fuse{Context: inner, ended: cancel}
	f.left.Store(int32(n)) //nolint:gosec // a handful
	return f, cancel
}

func (f *fuse) look() {
	if f.left.Add(-1) == 0 {
		f.ended()
	}
}

func (f *fuse) Err() error {
	f.look()
	return f.Context.Err()
}

func (f *fuse) Done() <-chan struct{} {
	f.look()
	return f.Context.Done()
}

// interruption is a way to end a context while a call is under way.
type interruption = func(context.Context) (context.Context, context.CancelFunc)

// interruptions end it at each look that a store may take at it, and at some times.
func (e *env[H]) interruptions() (list []interruption) {
	for n := 2; n <= 6; n++ {
		list = append(list, func(parent context.Context) (context.Context, context.CancelFunc) { return newFuse(parent, n) })
	}
	for _, d := range []time.Duration{20 * time.Microsecond, 300 * time.Microsecond, 2 * time.Millisecond} {
		list = append(list, func(parent context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(parent, d)
		})
	}
	return list
}

// outageLimit is how long a call may take that meets an outage.
const outageLimit = 3 * time.Second

func (e *env[H]) needsOutage() {
	if e.outage == nil {
		e.skip("the test of this store gives no WithOutage")
	}
}

// cut makes the backing store unreachable while f runs.
func (e *env[H]) cut(f func()) {
	var restore func()
	e.hook(func(tb testing.TB) { restore = e.outage(tb) })
	defer e.hook(func(testing.TB) { restore() })
	e.log.busy.Store(true)
	defer e.log.busy.Store(false)
	f()
}

// judgeOutage makes a call while the backing store is unreachable.
func (e *env[H]) judgeOutage(c namedCall) {
	ctx, cancel := context.WithTimeout(e.ctx, e.scaled(outageLimit))
	defer cancel()
	switch err := c.call(ctx); {
	case err == nil:
		e.failf("expected an error of %s while the backing store is unreachable\nthe store returned nil", c.method)
	case isNamed(err):
		e.failf("expected of %s a separate error while the backing store is unreachable, none that the laws name\nthe store returned %s: %q", c.method, errorName(err), err)
	}
}

// recovers waits until both handles that have met an outage work again.
func (e *env[H]) recovers(call func(ctx context.Context, h H) error) {
	limit := e.scaled(e.recovery)
	for i := range 2 {
		var err error
		for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			ctx, cancel := context.WithTimeout(e.ctx, e.scaled(outageLimit))
			err = call(ctx, e.handle(i))
			cancel()
			if err == nil || isNamed(err) {
				break
			}
		}
		if err != nil {
			e.fatalf("expected a handle that has met an outage to work again when the outage is over, within %v\nthe store returned the error %q", limit, err)
		}
	}
}

func (e *env[H]) needsCrash() {
	if e.crash == nil {
		e.skip("the test of this store gives no WithCrash, as is right for one that is not durable; one on a server is crashed with the server, one in a file with the process that StartProcess starts")
	}
}

// crashNow crashes the backend and opens two new handles.
func (e *env[H]) crashNow() {
	e.hook(func(tb testing.TB) { e.crash(tb) })
	e.a, e.b = e.openHandle(), e.openHandle()
}

// meeting lets clients begin their n-th step as nearly at the same moment as can
// be, but not for long: where there are more clients than processors, waiting
// keeps the others from coming.
type meeting struct {
	clients int32
	arrived []atomic.Int32
	next    atomic.Int32
}

func newMeeting(clients int) *meeting {
	return &meeting{clients: int32(clients), arrived: make([]atomic.Int32, 4096)} //nolint:gosec // a handful
}

func (m *meeting) meet() {
	const spins, yields = 500, 20
	n := m.next.Add(1) - 1
	at := &m.arrived[int(n/m.clients)%len(m.arrived)]
	at.Add(1)
	for i := 0; at.Load()%m.clients != 0 && i < spins+yields; i++ {
		if i > spins {
			runtime.Gosched()
		}
	}
}

// confusable are names that some database, language or library confuses, or
// does not read as a name. Within a group all are different.
var confusable = [][]string{
	{"Session", "session", "SESSION", "sESSION"},
	{"a", "a ", " a", " a ", "a  ", "a\u00a0", "a%20", "a+", "a=20", "a&nbsp;"},
	{"nAme", "n%41me", "n&#65;me", `n\u0041me`, `n\x41me`, `n\101me`, "n=41me"},
	{"é", "e\u0301", "e", "É", "è"},
	{"straße", "strasse", "STRASSE", "straẞe"},
	{"i", "I", "ı", "İ", "і"}, // the last is Cyrillic
	{"\u212a", "K", "k", "\u212b", "Å", "A\u030a"},
	{"値", "值", "あ", "ア", "ｱ"},
	{"😀", "😁", "👍", "👍🏽"},
	{"ab", "a\u200bb", "a\u200db", "a\ufeffb", "ﬁ", "fi"},
	{"x%", "x_", "xy", "xyz", "%", "_", "%%", `x\%`},
	{"y*", "y?", "y[a-z]", "yy", "y.", "y.*", "*", "?", "^y", "y$"},
	{"'", "''", `"`, `""`, "`", `\`, `\\`, `\'`, "' OR '1'='1", "'; --", "/* */", "$1", "@p1", ":id", "${id}", "$(id)", "{{id}}", "#"},
	{"0", "00", "0.0", "-0", "1", "01", "1.0", "1e0", "0x1", "true", "false", "null", "NULL", "nil", "undefined", "{}", "[]", "9007199254740993", "9007199254740992"},
	{"..", ".", "/", "x", "../x", "x/..", "x//y", "x/y", `x\y`, "x:y", "x::y", "x|y", "x,y"},
	{"%20", "%00", "+", "&amp;", "&", "<", "&lt;", `\u0041`, "A"},
	{"01ARZ3NDEKTSV4RRFFQ69G5FA0", "01ARZ3NDEKTSV4RRFFQ69G5FAO", "01ARZ3NDEKTSV4RRFFQ69G5FAo", "O1ARZ3NDEKTSV4RRFFQ69G5FA0", "0IARZ3NDEKTSV4RRFFQ69G5FA0", "0LARZ3NDEKTSV4RRFFQ69G5FA0", "81ARZ3NDEKTSV4RRFFQ69G5FA0", "01arz3ndektsv4rrffq69g5fa0"},
	{"123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174000", "123e4567e89b12d3a456426614174000", "{123e4567-e89b-12d3-a456-426614174000}"},
	{strings.Repeat("l", 255), strings.Repeat("l", 254), strings.Repeat("l", 254) + "m", strings.Repeat("L", 255)},
	{strings.Repeat("値", 85), strings.Repeat("値", 84) + "值", strings.Repeat("😀", 63) + "abc", strings.Repeat("'", 255)},
	{strings.Repeat("p", 64), strings.Repeat("p", 64) + "x", strings.Repeat("p", 128), strings.Repeat("p", 128) + "x", strings.Repeat("p", 191), strings.Repeat("p", 191) + "x"},
}

// uniqueName makes a name the case's own, with room for both in 255 bytes, and
// leaves its ends as they are: the case's name stands before it, or after a name
// that begins with what some strip.
func uniqueName(own, name string) string {
	if len(name) > 255-len(own) { // keep the end, in which long names differ
		name = strings.ToValidUTF8(name[len(own):], "")
	}
	if strings.HasPrefix(name, " ") || strings.HasPrefix(name, "^") {
		return name + own
	}
	return own + name
}

// lookalikes are names that some store may confuse with this one.
func lookalikes(name string) map[string]string {
	if name == "" {
		return map[string]string{}
	}
	last, first := len(name)-1, "0"
	list := map[string]string{
		"an unrelated ID":               newID(),
		"an empty ID":                   "",
		"the ID in the other case":      swapCase(name),
		"the ID without its end":        name[:last],
		"the ID except its end":         name[:last] + flip(name[last:]),
		"the ID except its start":       flip(name[:1]) + name[1:],
		"the ID and a character":        name + "0",
		"the ID and a space":            name + " ",
		"the ID after a space":          " " + name,
		"a pattern for every ID":        "%",
		"a pattern for the ID":          name[:last] + "_",
		"a condition that is true":      "' OR '1'='1",
		"the ID with O for 0":           strings.ReplaceAll(name, "0", "O"),
		"the ID with I for 1":           strings.ReplaceAll(name, "1", "I"),
		"the ID with L for 1":           strings.ReplaceAll(name, "1", "L"),
		"the ID with another first bit": first,
	}
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	if i := strings.IndexByte(digits, name[0]); i >= 0 { // 128 bits of a ULID are less than 26 digits hold
		list["the ID with another first bit"] = digits[(i+8)%32:(i+8)%32+1] + name[1:]
	}
	for what, other := range list {
		if other == name {
			delete(list, what)
		}
	}
	return list
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' {
			return r ^ 0x20
		}
		return r
	}, s)
}

func flip(digit string) string {
	if digit == "0" {
		return "1"
	}
	return "0"
}

func hashSum(h hash.Hash32, text []byte) uint32 {
	_, _ = h.Write(text) // never fails
	return h.Sum32()
}

// hashes are 32 bits that a store might use in place of a name.
var hashes = map[string]func(text []byte) uint32{
	"CRC-32":        crc32.ChecksumIEEE,
	"Adler-32":      adler32.Checksum,
	"FNV-1 hash":    func(text []byte) uint32 { return hashSum(fnv.New32(), text) },
	"FNV-1a hash":   func(text []byte) uint32 { return hashSum(fnv.New32a(), text) },
	"start of MD5":  func(text []byte) uint32 { sum := md5.Sum(text); return binary.BigEndian.Uint32(sum[:]) }, //nolint:gosec // stores do this
	"start of SHA2": func(text []byte) uint32 { sum := sha256.Sum256(text); return binary.BigEndian.Uint32(sum[:]) },
	"31-hash": func(text []byte) (h uint32) {
		for _, c := range text {
			h = h*31 + uint32(c)
		}
		return h
	},
}

// collisions returns for each of some hashes two names of which it is the same, each with
// the prefix and a ULID. Of 100,000 two have one of 32 bits more often than not, of 400,000
// all but once in 100,000 times.
func collisions(prefix string, hashes map[string]func(text []byte) uint32) map[string][2]string {
	const tries, slots = 400_000, 1 << 18
	type slot struct{ hash, id uint32 }   // one that another takes over is missed: few are
	source := newRandom(rand.Uint64(), 0) //nolint:gosec // any names
	ids := make([]ulid.ULID, 1, slots)
	found, seen := map[string][2]string{}, map[string][]slot{}
	used := map[uint32]bool{} // in a pair: no two have a name in common
	for what := range hashes {
		seen[what] = make([]slot, slots)
	}
	name := func(id uint32) string { return prefix + ids[id].String() }
	for len(ids) < tries && len(seen) > 0 {
		var id ulid.ULID
		binary.BigEndian.PutUint64(id[:8], source.Uint64()>>1)
		binary.BigEndian.PutUint64(id[8:], source.Uint64())
		last := uint32(len(ids)) //nolint:gosec // at most tries
		ids = append(ids, id)
		text := []byte(name(last))
		for what, table := range seen {
			h := hashes[what](text)
			if other := table[h%slots]; other.hash == h && other.id > 0 && !used[other.id] && !used[last] {
				found[what] = [2]string{name(other.id), name(last)}
				used[other.id], used[last] = true, true
				delete(seen, what)
			}
			table[h%slots] = slot{h, last}
		}
	}
	return found
}
