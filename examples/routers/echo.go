package routers

import (
	"net/http"

	"github.com/labstack/echo/v5"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// Echo mounts the handlers in Echo, whose parameters are not in the request: the
// request gets the path value app_id.
func Echo(r *renew.Renewer) http.Handler {
	renewal := httpadapter.RenewHandler(r)

	router := echo.New()
	router.Any("/auth/*", echo.WrapHandler(http.StripPrefix("/auth", httpadapter.New(r))))
	router.POST("/tenants/:tenant/renew", func(c *echo.Context) error {
		c.Request().SetPathValue("app_id", c.Param("tenant"))
		renewal.ServeHTTP(c.Response(), c.Request())
		return nil
	})
	router.GET("/me", echo.WrapHandler(http.HandlerFunc(me)), echo.WrapMiddleware(httpadapter.Authenticate(r, appID)))
	return router
}
