package main

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

const maxLoginBytes = 64 << 10

// readLogin reads sub, aud, ip and useragent; every other member of the body is a
// custom claim. Claims stay as they were sent, so that no number is rounded. The
// defaults of ip and useragent are those of the request; behind a proxy, give
// ClientIP the proxy's network. Errors are [*renew.ValidationError].
func readLogin(w http.ResponseWriter, r *http.Request) (renew.IssueRequest, error) {
	members, err := readObject(w, r, maxLoginBytes)
	if err != nil {
		return renew.IssueRequest{}, err
	}
	req := renew.IssueRequest{IP: httpadapter.ClientIP(r), UserAgent: r.UserAgent(), Claims: make(map[string]any)}
	for name, value := range members {
		ok, problem := true, "is not a string"
		switch name {
		case "sub":
			req.Subject, ok = readString(value)
		case "ip":
			req.IP, ok = readString(value)
		case "useragent":
			req.UserAgent, ok = readString(value)
		case "aud":
			req.Audience, ok = readStrings(value)
			problem = "is neither a string nor an array of strings"
		default: // Issue rejects reserved names, such as Sub
			req.Claims[name] = value
		}
		if !ok {
			return renew.IssueRequest{}, malformed(name, problem)
		}
	}
	return req, nil
}

// readObject returns the members of the JSON object that is the body. What two
// JSON libraries could read differently is an error, as it is to the library: if
// this server took the last of two sub members, and the proxy that checked the
// login the first, one user would be logged in as another.
func readObject(w http.ResponseWriter, r *http.Request, limit int64) (map[string]json.RawMessage, error) {
	if !isJSON(r.Header) { // no HTML form can send application/json from another site
		return nil, malformed("Content-Type", "is not application/json, with charset utf-8 or none")
	}
	if len(r.Header.Values("Content-Encoding")) > 0 {
		return nil, malformed("Content-Encoding", "is not supported")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return nil, malformed("body", "is too long, or was not sent in full")
	}
	// IsValid rejects duplicate members at any depth, text that is not UTF-8 and
	// halves of surrogate pairs (RFC 7493); encoding/json tolerates all of them.
	var members map[string]json.RawMessage
	if !jsontext.Value(body).IsValid() || json.Unmarshal(body, &members) != nil || members == nil {
		return nil, malformed("body", "is not a single JSON object, in UTF-8 and without duplicate members")
	}
	return members, nil
}

func isJSON(h http.Header) bool {
	contentTypes := h.Values("Content-Type")
	if len(contentTypes) != 1 {
		return false
	}
	mediaType, parameters, err := mime.ParseMediaType(contentTypes[0])
	if err != nil || mediaType != "application/json" {
		return false
	}
	charset, given := parameters["charset"]
	return !given || strings.EqualFold(charset, "utf-8")
}

// readString returns the string that raw holds. For encoding/json null is one too.
func readString(raw json.RawMessage) (s string, ok bool) {
	if raw[0] != '"' {
		return "", false
	}
	return s, json.Unmarshal(raw, &s) == nil
}

// readStrings reads a string or an array of strings (RFC 7519 section 4.1.3).
func readStrings(raw json.RawMessage) (all []string, ok bool) {
	if s, ok := readString(raw); ok {
		return []string{s}, true
	}
	var elements []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &elements) != nil {
		return nil, false
	}
	for _, element := range elements {
		s, ok := readString(element)
		if !ok {
			return nil, false
		}
		all = append(all, s)
	}
	return all, true
}

func malformed(field, message string) error {
	return &renew.ValidationError{Fields: []renew.FieldError{{Field: field, Message: message}}}
}
