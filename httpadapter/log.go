package httpadapter

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/jwtrenew/renew"
)

func (c *call) log(level slog.Level, text string, attrs ...slog.Attr) {
	c.logger.LogAttrs(c.ctx, level, text, attrs...)
}

// app returns the attribute app, if the app is known to exist.
func (c *call) app() []slog.Attr {
	if !c.appKnown {
		return nil
	}
	return []slog.Attr{slog.String("app", c.appID)}
}

// logError writes the record of a request that was rejected or failed.
func (c *call) logError(level slog.Level, text string, err error) {
	attrs, cause := c.app(), err
	var session *renew.SessionError
	if errors.As(err, &session) {
		attrs = append(attrs, slog.String("session", session.SessionID))
		cause = session.Err
	}
	var rejected *renew.TokenError
	if errors.As(err, &rejected) {
		attrs = append(attrs, slog.String("reason", string(rejected.Reason)))
	}
	message := c.mask(cause.Error())
	if session != nil { // the token is genuine, and a hook has seen it
		message = c.maskSecrets(message)
	}
	c.log(level, text, append(attrs, slog.String("error", message))...)
}

// recoverPanic turns a panic of a store, a signer or the user's functions into an
// internal error. [http.Server] would log its value, which may quote the request.
// A panic while the response is written is left to the server.
func (c *call) recoverPanic() {
	p := recover()
	if p == nil {
		return
	}
	if c.responded || p == http.ErrAbortHandler { //nolint:errorlint // the server compares it so
		panic(p)
	}
	text := c.maskSecrets(c.mask(fmt.Sprint(p)))
	c.log(slog.LevelError, "request panicked", append(c.app(), slog.String("error", text), slog.String("stack", string(debug.Stack())))...)
	c.writeJSON(http.StatusInternalServerError, internalError)
}

const (
	masked = "[redacted]"

	// The shortest app key and the shortest idempotency key. Tokens are longer.
	minSecretBytes = 16
)

// mask takes the app ID out of a text that is about to be logged, unless the app
// is known to exist.
func (c *call) mask(text string) string {
	if c.appKnown || c.appID == "" {
		return text
	}
	quoted := strconv.Quote(c.appID)
	for _, form := range []string{c.appID, quoted[1 : len(quoted)-1], url.PathEscape(c.appID), url.QueryEscape(c.appID)} {
		text = maskValue(text, form)
	}
	return text
}

func (c *call) maskSecrets(text string) string {
	for _, secret := range c.secrets {
		text = maskValue(text, secret)
	}
	return text
}

// maskValue replaces a value of the request in a text. A value that is too short
// to be a secret is replaced as a whole word only: a request for an app "e" must
// not garble the record of an outage.
func maskValue(text, value string) string {
	switch {
	case value == "":
		return text
	case len(value) >= minSecretBytes:
		return strings.ReplaceAll(text, value, masked)
	}
	var out strings.Builder
	for start := 0; ; {
		i := strings.Index(text[start:], value)
		if i < 0 {
			return out.String() + text[start:]
		}
		i += start
		end := i + len(value)
		if joinsWord(text, i) || joinsWord(text, end) {
			out.WriteString(text[start : i+1])
			start = i + 1
			continue
		}
		out.WriteString(text[start:i] + masked)
		start = end
	}
}

// joinsWord reports whether the bytes before and at i belong to one word.
func joinsWord(text string, i int) bool {
	return i > 0 && i < len(text) && isWordByte(text[i-1]) && isWordByte(text[i])
}

func isWordByte(b byte) bool {
	return '0' <= b && b <= '9' || 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z' || b >= 0x80
}
