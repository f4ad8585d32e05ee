package httpadapter

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/jwtrenew/renew"
)

// KeySetMaxAge is how long caches may keep a key set. For that long they may miss
// a new key and trust a revoked one; a verifier that asks once a minute costs
// nothing.
const KeySetMaxAge = time.Minute

func (c *call) keySet() {
	if !c.allows(http.MethodGet, http.MethodHead) {
		return
	}
	if err := c.findAppID(); err != nil {
		c.logError(slog.LevelError, "no app ID", err)
		c.writeJSON(http.StatusNotFound, notFound)
		return
	}
	set, err := c.renewer.KeySet(c.ctx, c.appID)
	switch {
	case errors.Is(err, renew.ErrAppNotFound), errors.Is(err, errors.ErrUnsupported):
		c.writeJSON(http.StatusNotFound, notFound)
	case err != nil:
		c.fail(err)
	default:
		c.w.Header().Set("Access-Control-Allow-Origin", "*")
		c.writeCacheable(http.StatusOK, fmt.Sprintf("public, max-age=%d", int(KeySetMaxAge.Seconds())), set)
	}
}
