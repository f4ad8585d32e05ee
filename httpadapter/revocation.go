package httpadapter

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/jwtrenew/renew"
)

const fieldToken = "token"

// revoke reads the body only once the caller is known. It responds to an invalid
// token as to a revoked one (RFC 7009 section 2.2).
func (c *call) revoke() {
	if !c.allows(http.MethodPost) {
		return
	}
	if err := c.authenticate(); err != nil {
		c.writeError(err)
		return
	}
	var token string
	invalid, err := c.readStrings([]member{{fieldToken, &token}})
	if err == nil && len(invalid) > 0 {
		err = invalid.err(fieldToken)
	}
	if err != nil {
		c.writeError(err)
		return
	}
	c.secrets = []string{token}
	err = c.renewer.Revoke(c.ctx, c.appID, token)
	switch {
	case errors.Is(err, renew.ErrInvalidToken):
		c.logError(slog.LevelInfo, "nothing revoked", err)
	case err != nil:
		c.writeError(err)
		return
	}
	c.writeJSON(http.StatusOK, struct{}{})
}
