package routers

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// Chi mounts the handlers in chi. A parameter that is named app_id needs no
// option.
func Chi(r *renew.Renewer) http.Handler {
	tenant := httpadapter.WithAppID(func(req *http.Request) string { return chi.URLParam(req, "tenant") })

	router := chi.NewRouter()
	router.Handle("/auth/*", http.StripPrefix("/auth", httpadapter.New(r)))
	router.Method(http.MethodPost, "/tenants/{tenant}/renew", httpadapter.RenewHandler(r, tenant))
	router.With(httpadapter.Authenticate(r, appID)).Get("/me", me)
	return router
}
