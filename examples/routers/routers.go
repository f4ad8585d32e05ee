// Package routers mounts the handlers of httpadapter in the usual routers, each in
// a separate file to copy from. Every router serves the same paths:
//
//	POST /auth/app/{app_id}/renew      httpadapter.New, under the prefix /auth
//	POST /auth/app/{app_id}/revoke
//	GET  /auth/app/{app_id}/jwks.json
//	POST /tenants/{tenant}/renew       httpadapter.RenewHandler; the app ID is the router's parameter
//	GET  /me                           a resource behind httpadapter.Authenticate
//
// The package is a separate module, so that building the other examples fetches
// none of these routers.
package routers

import (
	"io"
	"net/http"

	"github.com/jwtrenew/renew/httpadapter"
)

// appID is the app whose users the API has.
const appID = "shop"

// me is a resource of the API: it says who asks.
func me(w http.ResponseWriter, req *http.Request) {
	_, _ = io.WriteString(w, httpadapter.Claims(req.Context()).Subject) // a client that is gone reads nothing
}
