package routers

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// Gin mounts the handlers in gin, whose parameters are not in the request: the
// request gets the path value app_id.
func Gin(r *renew.Renewer) http.Handler {
	renewal := httpadapter.RenewHandler(r)
	authenticated := httpadapter.Authenticate(r, appID)

	router := gin.New()
	router.Any("/auth/*path", gin.WrapH(http.StripPrefix("/auth", httpadapter.New(r))))
	router.POST("/tenants/:tenant/renew", func(c *gin.Context) {
		c.Request.SetPathValue("app_id", c.Param("tenant"))
		renewal.ServeHTTP(c.Writer, c.Request)
	})
	router.GET("/me", gin.WrapH(authenticated(http.HandlerFunc(me))))
	return router
}
