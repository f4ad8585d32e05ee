package memstore

import (
	"encoding/binary"
	"time"

	"github.com/jwtrenew/renew"
)

// packed is what a rotation replaces of a session, in one string: all but
// AppID, ID, Subject and RevokedAt. A session is a dozen small objects; packed
// it takes half the memory, and the garbage collector sees one object without
// pointers. The strings that are unpacked from it share its memory.
type packed string

func pack(s renew.Session) packed {
	var room [1024]byte // on the stack; append moves out of it what needs more
	b := room[:0]
	for _, text := range [...]string{s.TokenID, s.PreviousTokenID, s.IP, s.UserAgent} {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	for _, value := range [...][]byte{s.Claims, s.IdempotencyKeyHash} {
		b = appendLength(b, uint64(len(value)), value == nil)
		b = append(b, value...)
	}
	b = appendLength(b, uint64(len(s.Audience)), s.Audience == nil)
	for _, text := range s.Audience {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	for _, t := range [...]time.Time{s.CreatedAt, s.EndsAt, s.IssuedAt, s.RefreshNotBefore, s.RefreshExpiresAt} {
		b = binary.AppendVarint(b, int64(millisOf(t)))
	}
	b = binary.AppendVarint(b, s.Generation)
	return packed(b)
}

// appendLength appends a length that tells a nil slice from an empty one.
func appendLength(b []byte, n uint64, isNil bool) []byte {
	if isNil {
		return append(b, 0)
	}
	return binary.AppendUvarint(b, n+1)
}

// tokenID returns the session's token ID.
func (p packed) tokenID() string { return p.text() }

// unpackInto sets the fields of s that pack has packed.
func (p packed) unpackInto(s *renew.Session) {
	for _, text := range [...]*string{&s.TokenID, &s.PreviousTokenID, &s.IP, &s.UserAgent} {
		*text = p.text()
	}
	s.Claims = p.bytes()
	s.IdempotencyKeyHash = p.bytes()
	s.Audience = p.list()
	for _, t := range [...]*time.Time{&s.CreatedAt, &s.EndsAt, &s.IssuedAt, &s.RefreshNotBefore, &s.RefreshExpiresAt} {
		*t = millis(p.varint()).time()
	}
	s.Generation = p.varint()
}

// The methods below take a value off the front.

func (p *packed) take(n uint64) string {
	value := (*p)[:n]
	*p = (*p)[n:]
	return string(value)
}

func (p *packed) text() string { return p.take(p.uvarint()) }

func (p *packed) bytes() []byte {
	n := p.uvarint()
	if n == 0 {
		return nil
	}
	return []byte(p.take(n - 1))
}

func (p *packed) list() []string {
	n := p.uvarint()
	if n == 0 {
		return nil
	}
	list := make([]string, n-1)
	for i := range list {
		list[i] = p.text()
	}
	return list
}

// uvarint is [binary.Uvarint] for a string.
func (p *packed) uvarint() uint64 {
	var value uint64
	for i := 0; ; i++ {
		b := (*p)[i]
		value |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			*p = (*p)[i+1:]
			return value
		}
	}
}

// varint is [binary.Varint] for a string.
func (p *packed) varint() int64 {
	u := p.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// millis is a time to the millisecond, counted from the zero Time, so that zero
// is zero.
type millis int64

var zeroTime = time.Time{}.UnixMilli()

func millisOf(t time.Time) millis { return millis(t.UnixMilli() - zeroTime) }

func (m millis) time() time.Time { return time.UnixMilli(int64(m) + zeroTime).UTC() }
