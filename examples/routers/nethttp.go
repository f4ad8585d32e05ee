package routers

import (
	"net/http"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// NetHTTP mounts the handlers in a [http.ServeMux]. A parameter that is named
// app_id needs no option.
func NetHTTP(r *renew.Renewer) http.Handler {
	tenant := httpadapter.WithAppID(func(req *http.Request) string { return req.PathValue("tenant") })
	authenticated := httpadapter.Authenticate(r, appID)

	mux := http.NewServeMux()
	mux.Handle("/auth/", http.StripPrefix("/auth", httpadapter.New(r)))
	mux.Handle("POST /tenants/{tenant}/renew", httpadapter.RenewHandler(r, tenant))
	mux.Handle("GET /me", authenticated(http.HandlerFunc(me)))
	return mux
}
