package routers_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/gofiber/fiber/v3"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/examples/routers"
	"github.com/jwtrenew/renew/memstore"
)

// client sends requests to an API that is mounted in a router.
type client struct {
	url, appKey string
}

func (c client) do(t *testing.T, method, path, authorization, body string) (status int, response string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.url+path, strings.NewReader(body))
	require.NoError(t, err)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(data)
}

func renewal(b renew.Bundle) string {
	return `{"refresh_token":"` + b.RefreshToken + `","ip":"192.0.2.1","useragent":"test"}`
}

// renew renews a session at a path and returns the new pair.
func (c client) renew(t *testing.T, path string, b renew.Bundle) renew.Bundle {
	t.Helper()
	status, response := c.do(t, http.MethodPost, path, c.appKey, renewal(b))
	require.Equal(t, http.StatusOK, status, response)
	var next renew.Bundle
	require.NoError(t, json.Unmarshal([]byte(response), &next))
	require.NotEqual(t, b.RefreshToken, next.RefreshToken)
	return next
}

// served returns the URL of a handler on a socket.
func served(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func servedByFiber(t *testing.T, app *fiber.App) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- app.Listener(listener, fiber.ListenConfig{DisableStartupMessage: true}) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections() // Shutdown waits for them
		require.NoError(t, app.ShutdownWithContext(context.Background()))
		require.NoError(t, <-done)
	})
	return "http://" + listener.Addr().String()
}

// Promise: mounted as shown, every router serves every path.
func TestRouters(t *testing.T) {
	gin.SetMode(gin.TestMode)
	for name, serve := range map[string]func(*testing.T, *renew.Renewer) string{
		"net/http": func(t *testing.T, r *renew.Renewer) string { return served(t, routers.NetHTTP(r)) },
		"chi":      func(t *testing.T, r *renew.Renewer) string { return served(t, routers.Chi(r)) },
		"gin":      func(t *testing.T, r *renew.Renewer) string { return served(t, routers.Gin(r)) },
		"echo":     func(t *testing.T, r *renew.Renewer) string { return served(t, routers.Echo(r)) },
		"fiber":    func(t *testing.T, r *renew.Renewer) string { return servedByFiber(t, routers.Fiber(r)) },
	} {
		t.Run(name, func(t *testing.T) {
			store := memstore.New()
			appKey, hash := renew.NewAppKey()
			app := renew.App{ID: "shop", Issuer: "https://shop.example", KeyHashes: []renew.AppKeyHash{hash}}
			require.NoError(t, renew.EnsureApp(t.Context(), store, app, renew.ES256))
			r, err := renew.New(store, store)
			require.NoError(t, err)
			c := client{serve(t, r), appKey}
			issued, err := r.Issue(t.Context(), renew.IssueRequest{AppID: "shop", Subject: "ann", IP: "192.0.2.1"})
			require.NoError(t, err)

			current := c.renew(t, "/auth/app/shop/renew", *issued)
			current = c.renew(t, "/tenants/shop/renew", current)

			for _, path := range []string{"/auth/app/shop/renew", "/auth/app/other/renew", "/tenants/shop/renew", "/tenants/other/renew", "/auth/app/shop/revoke"} {
				key := "wrong"
				if strings.Contains(path, "other") {
					key = appKey
				}
				status, response := c.do(t, http.MethodPost, path, key, renewal(current))
				require.Equal(t, http.StatusForbidden, status, path)
				require.Equal(t, `{"message":"invalid app key"}`, response, path)
			}

			status, response := c.do(t, http.MethodGet, "/auth/app/shop/jwks.json", "", "")
			require.Equal(t, http.StatusOK, status, response)
			require.Contains(t, response, `"kid":"`+current.KeyID+`"`)

			status, response = c.do(t, http.MethodGet, "/me", "Bearer "+current.AuthToken, "")
			require.Equal(t, http.StatusOK, status, response)
			require.Equal(t, "ann", response)
			status, response = c.do(t, http.MethodGet, "/me", "", "")
			require.Equal(t, http.StatusUnauthorized, status)
			require.Equal(t, `{"message":"invalid auth token"}`, response)

			status, response = c.do(t, http.MethodPost, "/auth/app/shop/revoke", appKey, `{"token":"`+current.AuthToken+`"}`)
			require.Equal(t, http.StatusOK, status, response)
			require.Equal(t, `{}`, response)
			status, response = c.do(t, http.MethodPost, "/tenants/shop/renew", appKey, renewal(current))
			require.Equal(t, http.StatusBadRequest, status)
			require.Equal(t, `{"message":"invalid refresh token"}`, response)
		})
	}
}
