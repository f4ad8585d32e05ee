package httpadapter

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/strictjson"
)

// maxBodyBytes is several times what a request needs that can succeed.
const maxBodyBytes = 64 << 10

// What a request is made of, in the order in which it is reported.
const (
	fieldRefreshToken   = "refresh_token"
	fieldIP             = "ip"
	fieldUserAgent      = "useragent"
	fieldIdempotencyKey = "Idempotency-Key"

	fieldContentType     = "Content-Type"
	fieldContentEncoding = "Content-Encoding"
	fieldBody            = "body"
)

// wrongFields says what is wrong, by field.
type wrongFields map[string]string

// invalid returns the error of a request that is wrong in these fields.
func (w wrongFields) invalid(order ...string) error {
	err := &renew.ValidationError{}
	for _, field := range order {
		if message, wrong := w[field]; wrong {
			err.Fields = append(err.Fields, renew.FieldError{Field: field, Message: message})
		}
	}
	return err
}

// readRenewal returns what the request asks for, or a [*renew.ValidationError].
func (a *adapter) readRenewal(w http.ResponseWriter, req *http.Request, appID string) (renew.RenewRequest, error) {
	if wrong := checkMedia(req.Header); len(wrong) > 0 {
		return renew.RenewRequest{}, wrong.invalid(fieldContentType, fieldContentEncoding)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBodyBytes))
	if err != nil {
		return renew.RenewRequest{}, wrongFields{fieldBody: unreadable(err)}.invalid(fieldBody)
	}
	renewal, wrong, err := decode(body)
	if err != nil {
		return renew.RenewRequest{}, err
	}
	renewal.AppID = appID
	keys := req.Header.Values(fieldIdempotencyKey)
	switch {
	case len(keys) > 1:
		wrong[fieldIdempotencyKey] = "is sent more than once"
	case len(keys) == 1 && keys[0] == "": // its client counts on a key
		wrong[fieldIdempotencyKey] = "is empty"
	case len(keys) == 1:
		renewal.IdempotencyKey = keys[0]
	}
	if len(wrong) > 0 {
		return renew.RenewRequest{}, complete(renewal, wrong)
	}
	return renewal, nil
}

// checkMedia says what keeps a body from being plain JSON in UTF-8. It asks for
// the content type that the documentation sends, which no HTML form can.
func checkMedia(h http.Header) wrongFields {
	wrong := wrongFields{}
	if !isJSON(h.Values(fieldContentType)) {
		wrong[fieldContentType] = "is not application/json, with charset utf-8 or none"
	}
	for _, encoding := range h.Values(fieldContentEncoding) {
		if !strings.EqualFold(encoding, "identity") {
			wrong[fieldContentEncoding] = "is not identity: send the body as it is"
		}
	}
	return wrong
}

func isJSON(contentTypes []string) bool {
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

// unreadable says why a body could not be read. The error itself may quote what
// the client sent: net/http does so with a malformed trailer.
func unreadable(err error) string {
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return fmt.Sprintf("is longer than %d bytes", maxBodyBytes)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "ends early"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "was not sent in time"
	}
	return "could not be read"
}

// decode reads the members of a body, and says which of them are no strings.
// What is wrong with the body as a whole is an error.
func decode(body []byte) (renew.RenewRequest, wrongFields, error) {
	members, err := strictjson.Object(body, fieldRefreshToken, fieldIP, fieldUserAgent)
	if err != nil {
		return renew.RenewRequest{}, nil, wrongFields{fieldBody: err.Error()}.invalid(fieldBody)
	}
	var renewal renew.RenewRequest
	wrong := wrongFields{}
	for _, m := range []struct {
		field string
		value *string
	}{{fieldRefreshToken, &renewal.RefreshToken}, {fieldIP, &renewal.IP}, {fieldUserAgent, &renewal.UserAgent}} {
		raw, given := members[m.field]
		if !given {
			continue // reported by Validate
		}
		var ok bool
		if *m.value, ok = strictjson.String(raw); !ok {
			wrong[m.field] = "is not a string"
		}
	}
	if _, known := wrong[fieldUserAgent]; !known && renewal.UserAgent == "" {
		wrong[fieldUserAgent] = "is required" // by the documentation; a Renewer takes any user agent
	}
	return renewal, wrong, nil
}

// complete returns the error of a request that is known to be wrong, with what is
// wrong with its other fields.
func complete(renewal renew.RenewRequest, wrong wrongFields) error {
	var found *renew.ValidationError
	if errors.As(renewal.Validate(), &found) {
		for _, f := range found.Fields {
			if _, known := wrong[f.Field]; !known {
				wrong[f.Field] = f.Message
			}
		}
	}
	return wrong.invalid(fieldRefreshToken, fieldIP, fieldUserAgent, fieldIdempotencyKey)
}
