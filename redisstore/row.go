package redisstore

import (
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/sessionfields"
)

// A session is a hash with the fields of package sessionfields: numbers in decimal
// digits, bytes in hexadecimal ones.

// maxMillis is the largest time that an index of ends and the scripts keep exactly; it
// is in the year 287396.
const maxMillis = 1<<53 - 1

// fields returns a session as the fields and values of its hash. They share no
// memory with it.
func fields(s renew.Session) ([]any, error) {
	if ms := end(s); ms > maxMillis || ms < -maxMillis {
		return nil, errors.New("the end is over 285,000 years away")
	}
	var w fieldWriter
	err := sessionfields.Write(s, &w)
	return w, err
}

type fieldWriter []any

func (w *fieldWriter) Text(name, value string) { *w = append(*w, name, value) }

func (w *fieldWriter) Number(name string, n int64) { w.Text(name, strconv.FormatInt(n, 10)) }

func (w *fieldWriter) Bytes(name string, value []byte) { w.Text(name, hex.EncodeToString(value)) }

// lacking returns the names of the fields that are not among the fields and values.
func lacking(pairs []any) string {
	names := sessionfields.Optional()
	for i := 0; i < len(pairs); i += 2 {
		names = slices.DeleteFunc(names, func(name string) bool { return name == pairs[i] })
	}
	return strings.Join(names, " ")
}

// session reads the reply to HGETALL.
func session(flat []string) (renew.Session, error) {
	values := hash{}
	for i := 0; i+1 < len(flat); i += 2 {
		values[flat[i]] = flat[i+1]
	}
	return sessionfields.Read(values)
}

// hash is what HGETALL returns.
type hash map[string]string

func (h hash) Has(name string) bool {
	_, ok := h[name]
	return ok
}

func (h hash) Text(name string) (string, bool) {
	value, ok := h[name]
	return value, ok
}

func (h hash) Number(name string) (int64, bool) {
	n, err := strconv.ParseInt(h[name], 10, 64)
	return n, err == nil
}

func (h hash) Bytes(name string) ([]byte, bool) {
	value, err := hex.DecodeString(h[name])
	return value, err == nil
}

// end is when the session ends, in milliseconds, as [renew.Session.EndedBefore]
// judges it after a round trip through the store.
func end(s renew.Session) int64 { return s.End().UnixMilli() }
