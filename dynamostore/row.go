package dynamostore

import (
	"errors"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/sessionfields"
)

// A session is an item with the fields of package sessionfields as attributes, and these.
const (
	// fieldLiveUntil is when the session ends, in milliseconds, for DeleteExpired.
	fieldLiveUntil = "live_until"
	// fieldExpiresAt is when DynamoDB may delete the item, of an entry too, in seconds:
	// the table's time to live.
	fieldExpiresAt = "expires_at"
	// fieldListedUntil is the expires_at of the session's entry in its subject's
	// list.
	fieldListedUntil = "listed_until"
)

// sessionFields are the attributes that a rotation replaces. Those of them that the
// new session lacks are removed.
var sessionFields = append(sessionfields.All(), fieldLiveUntil, fieldExpiresAt)

// fields returns a session as attributes, which share no memory with it.
func fields(s renew.Session) (item, error) {
	w := fieldWriter{}
	if err := sessionfields.Write(s, w); err != nil {
		return nil, err
	}
	w.Number(fieldLiveUntil, s.End().UnixMilli())
	return item(w), nil
}

type fieldWriter item

func (w fieldWriter) Text(name, value string) {
	if v := textValue(value); v != nil {
		w[name] = v
	}
}

// textValue is a string, or as bytes what is not valid UTF-8: the SDK would change it.
// The empty string has no value.
func textValue(value string) types.AttributeValue {
	switch {
	case value == "":
		return nil
	case utf8.ValidString(value):
		return text(value)
	}
	return &types.AttributeValueMemberB{Value: []byte(value)}
}

func (w fieldWriter) Bytes(name string, value []byte) {
	w[name] = &types.AttributeValueMemberB{Value: slices.Clone(value)}
}

func (w fieldWriter) Number(name string, n int64) { w[name] = number(n) }

// session reads the attributes of a session.
func session(i item) (renew.Session, error) { return sessionfields.Read(attributes(i)) }

// names reads what names a session: app, ID and subject.
func names(i item) (renew.Session, error) {
	a := attributes(i)
	appID, appOK := a.Text(sessionfields.App)
	id, idOK := a.Text(sessionfields.ID)
	subject, subjectOK := a.Text(sessionfields.Subject)
	if !appOK || !idOK || !subjectOK {
		return renew.Session{}, errors.New("a stored session has no valid app, ID or subject")
	}
	return renew.Session{AppID: appID, ID: id, Subject: subject}, nil
}

type attributes item

func (a attributes) Has(name string) bool { return a[name] != nil }

// Text reads a string or bytes. It returns the empty string if there is no such
// attribute.
func (a attributes) Text(name string) (string, bool) {
	switch v := a[name].(type) {
	case nil:
		return "", true
	case *types.AttributeValueMemberS:
		return v.Value, true
	case *types.AttributeValueMemberB:
		return string(v.Value), true
	}
	return "", false
}

func (a attributes) Bytes(name string) ([]byte, bool) {
	v, ok := a[name].(*types.AttributeValueMemberB)
	if !ok {
		return nil, false
	}
	return v.Value, true
}

func (a attributes) Number(name string) (int64, bool) {
	v, ok := a[name].(*types.AttributeValueMemberN)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(v.Value, 10, 64)
	return n, err == nil
}
