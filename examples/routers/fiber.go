package routers

import (
	"net/http"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// tenantKey is where Fiber keeps a request's tenant.
type tenantKey struct{}

// Fiber mounts the handlers in Fiber. Its adaptor makes a new [http.Request], which
// has Fiber's locals as the values of its context, and only the last one of
// repeated headers.
func Fiber(r *renew.Renewer) *fiber.App {
	tenant := httpadapter.WithAppID(func(req *http.Request) string {
		id, _ := req.Context().Value(tenantKey{}).(string)
		return id
	})
	authenticated := httpadapter.Authenticate(r, appID)

	app := fiber.New()
	app.All("/auth/*", adaptor.HTTPHandler(http.StripPrefix("/auth", httpadapter.New(r))))
	app.Post("/tenants/:tenant/renew", func(c fiber.Ctx) error {
		c.Locals(tenantKey{}, c.Params("tenant"))
		return c.Next()
	}, adaptor.HTTPHandler(httpadapter.RenewHandler(r, tenant)))
	app.Get("/me", adaptor.HTTPHandler(authenticated(http.HandlerFunc(me))))
	return app
}
