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

// What can be invalid in a request as a whole.
const (
	fieldContentType     = "Content-Type"
	fieldContentEncoding = "Content-Encoding"
	fieldBody            = "body"
)

// invalidFields says what is wrong with a request, by field.
type invalidFields map[string]string

// add adds the fields of another error, except those that f has.
func (f invalidFields) add(others *renew.ValidationError) {
	for _, other := range others.Fields {
		if _, known := f[other.Field]; !known {
			f[other.Field] = other.Message
		}
	}
}

// err returns the fields as an error, in the given order.
func (f invalidFields) err(order ...string) error {
	err := &renew.ValidationError{}
	for _, field := range order {
		if message, invalid := f[field]; invalid {
			err.Fields = append(err.Fields, renew.FieldError{Field: field, Message: message})
		}
	}
	return err
}

// member is a required member of a body.
type member struct {
	name  string
	value *string
}

// readStrings reads the members of the body, and says which of them are missing,
// empty or not strings. An error is a [*renew.ValidationError] about the body as a
// whole.
func (c *call) readStrings(members []member) (invalidFields, error) {
	body, err := c.readBody()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.name
	}
	object, err := strictjson.Object(body, names...)
	if err != nil {
		return nil, invalidFields{fieldBody: err.Error()}.err(fieldBody)
	}
	invalid := invalidFields{}
	for _, m := range members {
		raw, given := object[m.name]
		var isString bool
		*m.value, isString = strictjson.String(raw)
		switch {
		case given && !isString:
			invalid[m.name] = "is not a string"
		case *m.value == "":
			invalid[m.name] = "is required"
		}
	}
	return invalid, nil
}

func (c *call) readBody() ([]byte, error) {
	if invalid := checkMedia(c.req.Header); len(invalid) > 0 {
		return nil, invalid.err(fieldContentType, fieldContentEncoding)
	}
	body := c.req.Body
	if body == nil { // of a request that no server has made
		body = http.NoBody
	}
	data, err := io.ReadAll(http.MaxBytesReader(c.w, body, maxBodyBytes))
	if err != nil {
		return nil, invalidFields{fieldBody: unreadable(err)}.err(fieldBody)
	}
	return data, nil
}

// checkMedia says what keeps a body from being plain JSON in UTF-8. It requires
// the content type that the documentation sends, which no HTML form can.
func checkMedia(h http.Header) invalidFields {
	invalid := invalidFields{}
	if !isJSON(h.Values(fieldContentType)) {
		invalid[fieldContentType] = "is not application/json, with charset utf-8 or none"
	}
	for _, encoding := range h.Values(fieldContentEncoding) {
		if !strings.EqualFold(encoding, "identity") {
			invalid[fieldContentEncoding] = "is not identity: send the body as it is"
		}
	}
	return invalid
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
