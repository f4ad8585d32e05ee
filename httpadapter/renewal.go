package httpadapter

import (
	"errors"
	"net/http"
	"strings"

	"github.com/jwtrenew/renew"
)

// The fields of a renewal, in the order in which errors list them.
const (
	fieldRefreshToken   = "refresh_token"
	fieldIP             = "ip"
	fieldUserAgent      = "useragent"
	fieldIdempotencyKey = "Idempotency-Key"
)

// renew reads the body only once the caller is known.
func (c *call) renew() {
	if !c.allows(http.MethodPost) {
		return
	}
	if err := c.authenticate(); err != nil {
		c.writeError(err)
		return
	}
	renewal, err := c.readRenewal()
	if err != nil {
		c.writeError(err)
		return
	}
	c.secrets = []string{renewal.RefreshToken, renewal.IdempotencyKey}
	bundle, err := c.renewer.Renew(c.ctx, renewal)
	if err != nil {
		c.writeError(err)
		return
	}
	c.writeJSON(http.StatusOK, bundle)
}

// readRenewal returns what the request asks for, or a [*renew.ValidationError].
func (c *call) readRenewal() (renew.RenewRequest, error) {
	renewal := renew.RenewRequest{AppID: c.appID}
	invalid, err := c.readStrings([]member{
		{fieldRefreshToken, &renewal.RefreshToken},
		{fieldIP, &renewal.IP},
		{fieldUserAgent, &renewal.UserAgent},
	})
	if err != nil {
		return renew.RenewRequest{}, err
	}
	var message string
	if renewal.IdempotencyKey, message = c.idempotencyKey(); message != "" {
		invalid[fieldIdempotencyKey] = message
	}
	if len(invalid) == 0 {
		return renewal, nil // Renew validates it
	}
	var others *renew.ValidationError
	if errors.As(renewal.Validate(), &others) {
		invalid.add(others)
	}
	return renew.RenewRequest{}, invalid.err(fieldRefreshToken, fieldIP, fieldUserAgent, fieldIdempotencyKey)
}

// idempotencyKey returns the key of the request, or what is wrong with it.
func (c *call) idempotencyKey() (key, message string) {
	switch keys := c.req.Header.Values(fieldIdempotencyKey); {
	case len(keys) == 0:
		return "", ""
	case len(keys) > 1:
		return "", "is sent more than once"
	case keys[0] == "": // the client expects idempotency
		return "", "is empty"
	default:
		return strings.Clone(keys[0]), "" // a renew function may keep it
	}
}
