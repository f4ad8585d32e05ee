// Package forged is a corpus of refresh tokens that must be rejected, each for its
// own reason, and of a few that look odd and are valid. The tokens are data,
// signed once with keys that are part of the corpus, so that a change of this
// module cannot change what it is tested with.
//
// The files in testdata hold records: lines of the form "field: value", and an
// empty line between two records. A line that starts with # is a comment, before
// the first record only. A token's record has these fields, in this order:
//
//	token    its name: the part of the corpus, a colon, and what it is
//	why      what it tries, or whom it would fool
//	result   what a renewal with it results in: valid, or the reason of its
//	         rejection; "ahead" is the error for a token ahead of the store
//	revoke   what revocation by it results in, if that differs: valid, or a reason
//	go-jose  what go-jose tolerates, if a careful user of go-jose alone accepts it
//	compact  a piece of the token, a Go string, perhaps repeated: "ICAg" * 2500
//
// The tokens are those of the app app_1 with the issuer issuer_1, of the session
// "own", at [Now]. app_2 (issuer_2) has the key "foreign" and the session
// "foreign"; app_3 (issuer_3) shares the active key of app_1.
package forged

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/x509"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Valid is the result of a token that is accepted.
const Valid = "valid"

// Now is the time at which the corpus is presented. All its sessions were issued
// then.
var Now = time.Date(2026, 3, 1, 12, 0, 0, 345_000_000, time.UTC)

// Token is one token of the corpus.
type Token struct {
	Name    string
	Why     string
	Result  string // of a renewal
	Revoke  string // of a revocation
	GoJose  string // empty: go-jose rejects it too, or Result is Valid
	Compact string
}

// Part returns the part of the corpus that the token belongs to.
func (t Token) Part() string {
	part, _, _ := strings.Cut(t.Name, ":")
	return part
}

// The states of a [Key].
const (
	KeyActive   = "active"
	KeyReplaced = "replaced" // at Now
	KeyRevoked  = "revoked"
	KeyDeleted  = "deleted"
	KeyUnknown  = "unknown" // of no app
)

// Key is a signing key of the corpus.
type Key struct {
	Name      string
	ID        string
	Algorithm string
	App       string
	State     string
	Private   crypto.Signer
}

// Session is a session that tokens of the corpus name.
type Session struct {
	Name    string
	App     string
	ID      string
	TokenID string
}

//go:embed testdata
var data embed.FS

// Tokens returns the corpus.
func Tokens() ([]Token, error) {
	files, err := fs.Glob(data, "testdata/tokens/*.txt")
	if err != nil || len(files) == 0 {
		return nil, errors.Join(err, errors.New("the corpus has no files"))
	}
	var all []Token
	seen := map[string]bool{}
	for _, file := range files {
		records, err := read(file)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			t, err := r.token()
			switch {
			case err != nil:
				return nil, fmt.Errorf("%s:%d: %w", file, r.line, err)
			case seen[t.Name]:
				return nil, fmt.Errorf("%s:%d: there is another token %q", file, r.line, t.Name)
			case t.Part()+".txt" != path.Base(file):
				return nil, fmt.Errorf("%s:%d: the token belongs into another file", file, r.line)
			}
			seen[t.Name] = true
			all = append(all, t)
		}
	}
	return all, nil
}

// Keys returns the signing keys of the corpus by name.
func Keys() (map[string]Key, error) {
	return named("testdata/keys.txt", record.key, func(k Key) string { return k.Name })
}

// Sessions returns the sessions of the corpus by name.
func Sessions() (map[string]Session, error) {
	return named("testdata/sessions.txt", record.session, func(s Session) string { return s.Name })
}

func named[T any](file string, parse func(record) (T, error), name func(T) string) (map[string]T, error) {
	records, err := read(file)
	if err != nil {
		return nil, err
	}
	all := map[string]T{}
	for _, r := range records {
		v, err := parse(r)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, r.line, err)
		}
		all[name(v)] = v
	}
	if len(all) != len(records) {
		return nil, fmt.Errorf("%s: two records have one name", file)
	}
	return all, nil
}

// record is the fields of one record, in the order of the file.
type record struct {
	line   int
	fields []field
}

type field struct{ name, value string }

func read(file string) ([]record, error) {
	text, err := data.ReadFile(file)
	if err != nil {
		return nil, err
	}
	records, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", file, err)
	}
	return records, nil
}

// parse splits a file into records. Its errors start with the number of the line.
func parse(text []byte) ([]record, error) {
	var all []record
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	inRecord := false
	n := 0
	for lines.Scan() {
		n++
		line := lines.Text()
		if line == "" {
			inRecord = false
			continue
		}
		if line[0] == '#' && len(all) == 0 {
			continue
		}
		name, value, ok := strings.Cut(line, ": ")
		if !ok || name == "" || value == "" || strings.TrimSpace(value) != value {
			return nil, fmt.Errorf("%d: the line is not a field", n)
		}
		if !inRecord {
			all, inRecord = append(all, record{line: n}), true
		}
		last := &all[len(all)-1]
		last.fields = append(last.fields, field{name, value})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%d: %w", n, err)
	}
	if len(text) == 0 || text[len(text)-1] != '\n' {
		return nil, fmt.Errorf("%d: the last line has no end", n)
	}
	return all, nil
}

// take removes the fields of a name that the record begins with.
func (r *record) take(name string) []string {
	var values []string
	for len(r.fields) > 0 && r.fields[0].name == name {
		values = append(values, r.fields[0].value)
		r.fields = r.fields[1:]
	}
	return values
}

// one returns the value of a field that is in the record once.
func (r *record) one(name string, err *error) string {
	values := r.take(name)
	if len(values) != 1 {
		*err = errors.Join(*err, fmt.Errorf("the record has not one field %q in its place", name))
		return ""
	}
	return values[0]
}

// optional is one for a field that may be missing.
func (r *record) optional(name string, err *error) string {
	if len(r.fields) == 0 || r.fields[0].name != name {
		return ""
	}
	return r.one(name, err)
}

// end says whether all fields were taken.
func (r *record) end(err *error) {
	if len(r.fields) > 0 {
		*err = errors.Join(*err, fmt.Errorf("the field %q is unknown or not in its place", r.fields[0].name))
	}
}

func (r record) token() (t Token, err error) {
	t.Name = r.one("token", &err)
	t.Why = r.one("why", &err)
	t.Result = r.one("result", &err)
	t.Revoke = r.optional("revoke", &err)
	t.GoJose = r.optional("go-jose", &err)
	pieces := r.take("compact")
	r.end(&err)
	if err != nil {
		return Token{}, err
	}
	if !strings.Contains(t.Name, ": ") {
		return Token{}, errors.New("the name does not start with a part")
	}
	if t.Revoke == t.Result {
		return Token{}, errors.New("revoke repeats the result")
	}
	if t.Revoke == "" {
		t.Revoke = t.Result
	}
	t.Compact, err = join(pieces)
	return t, err
}

// maxCompact keeps a repetition from being of any length.
const maxCompact = 16 << 20

// join returns the text that pieces stand for.
func join(pieces []string) (string, error) {
	if len(pieces) == 0 {
		return "", errors.New("the token is missing")
	}
	var all strings.Builder
	for _, piece := range pieces {
		quoted, err := strconv.QuotedPrefix(piece)
		if err != nil {
			return "", errors.New("a piece is not a Go string")
		}
		text, err := strconv.Unquote(quoted)
		if err != nil {
			return "", errors.New("a piece is not a Go string")
		}
		count := 1
		if times, repeated := strings.CutPrefix(piece[len(quoted):], " * "); repeated {
			if count, err = strconv.Atoi(times); err != nil || count < 2 || strconv.Itoa(count) != times {
				return "", errors.New("a piece is repeated by what is not a number above 1")
			}
		} else if piece != quoted {
			return "", errors.New("a piece has text after its string")
		}
		if text == "" || count > maxCompact/len(text) || all.Len()+count*len(text) > maxCompact {
			return "", errors.New("a piece is empty or too long")
		}
		all.WriteString(strings.Repeat(text, count))
	}
	return all.String(), nil
}

func (r record) key() (k Key, err error) {
	k.Name = r.one("key", &err)
	k.ID = r.one("id", &err)
	k.Algorithm = r.one("alg", &err)
	k.App = r.optional("app", &err)
	k.State = r.one("state", &err)
	encoded := r.one("private", &err)
	r.end(&err)
	if err != nil {
		return Key{}, err
	}
	if !slices.Contains([]string{KeyActive, KeyReplaced, KeyRevoked, KeyDeleted, KeyUnknown}, k.State) {
		return Key{}, errors.New("the state is unknown")
	}
	der, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return Key{}, err
	}
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return Key{}, err
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return Key{}, errors.New("the key does not sign")
	}
	k.Private = signer
	return k, nil
}

func (r record) session() (s Session, err error) {
	s.Name = r.one("session", &err)
	s.App = r.one("app", &err)
	s.ID = r.one("id", &err)
	s.TokenID = r.one("jid", &err)
	r.end(&err)
	return s, err
}
