package renew_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

// A session from login to logout.
func Example() {
	ctx := context.Background()

	// Once, when the program starts: an app, its signing key, a Renewer.
	store := memstore.New()
	if err := store.CreateApp(ctx, renew.App{ID: "shop", Issuer: "https://shop.example"}); err != nil {
		log.Fatal(err)
	}
	key, err := renew.GenerateSigningKey(renew.ES256)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.RotateSigningKey(ctx, "shop", key, time.Now()); err != nil {
		log.Fatal(err)
	}
	renewer, err := renew.New(store, store)
	if err != nil {
		log.Fatal(err)
	}

	// When a user has logged in.
	login, err := renewer.Issue(ctx, renew.IssueRequest{
		AppID: "shop", Subject: "ann@example.com", IP: "192.0.2.1", UserAgent: "browser/1.0",
		Claims: map[string]any{"role": "admin"},
	})
	if err != nil {
		log.Fatal(err)
	}

	// When the auth token is about to expire.
	next, err := renewer.Renew(ctx, renew.RenewRequest{
		AppID: "shop", RefreshToken: login.RefreshToken, IP: "192.0.2.1", UserAgent: "browser/1.0",
	})
	if err != nil {
		log.Fatal(err)
	}

	// With every request to the API.
	claims, err := renewer.VerifyAuthToken(ctx, "shop", next.AuthToken)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(claims.Subject, claims.Claims["role"])

	// When the user logs out.
	if err := renewer.Revoke(ctx, "shop", next.AuthToken); err != nil {
		log.Fatal(err)
	}
	_, err = renewer.Renew(ctx, renew.RenewRequest{
		AppID: "shop", RefreshToken: next.RefreshToken, IP: "192.0.2.1", UserAgent: "browser/1.0",
	})
	fmt.Println(errors.Is(err, renew.ErrInvalidRefreshToken))
	// Output:
	// ann@example.com admin
	// true
}

// A refresh token is valid for one renewal.
func ExampleRenewer_Renew() {
	ctx := context.Background()
	renewer, login := exampleLogin()
	req := renew.RenewRequest{
		AppID: "shop", RefreshToken: login.RefreshToken, IP: "192.0.2.1", UserAgent: "browser/1.0",
	}
	_, err := renewer.Renew(ctx, req)
	fmt.Println(err)

	_, err = renewer.Renew(ctx, req)
	var rejected *renew.TokenError
	if errors.As(err, &rejected) {
		fmt.Println(rejected.Reason)
	}
	// Output:
	// <nil>
	// superseded
}

// A client that repeats a request with its idempotency key gets the response that
// was lost on the way.
func ExampleRenewer_Renew_retry() {
	ctx := context.Background()
	renewer, login := exampleLogin()
	req := renew.RenewRequest{
		AppID: "shop", RefreshToken: login.RefreshToken, IP: "192.0.2.1", UserAgent: "browser/1.0",
		IdempotencyKey: "d41d8cd98f00b204e9800998ecf8427e", // the client's, random
	}
	lost, err := renewer.Renew(ctx, req)
	if err != nil {
		log.Fatal(err)
	}
	again, err := renewer.Renew(ctx, req)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(again.TokenID == lost.TokenID, again.Retried)
	// Output: true true
}

// A renew func reads roles again, bans an account and binds a session to the IP
// address that it began at.
func ExampleWithRenewFunc() {
	errBanned := errors.New("account is banned")
	accounts := map[string]string{"ann@example.com": "editor"} // who may do what today
	decide := func(ctx context.Context, rn *renew.Renewal) error {
		role, ok := accounts[rn.Session.Subject]
		if !ok {
			return fmt.Errorf("%w: %w", renew.ErrDenied, errBanned)
		}
		if rn.Request.IP != rn.Session.IP {
			return fmt.Errorf("%w: another IP address", renew.ErrDenied)
		}
		rn.Claims["role"] = role
		return nil
	}
	renewer, login := exampleLogin(renew.WithRenewFunc(decide))

	ctx := context.Background()
	next, err := renewer.Renew(ctx, renew.RenewRequest{
		AppID: "shop", RefreshToken: login.RefreshToken, IP: "192.0.2.1", UserAgent: "browser/1.0",
	})
	if err != nil {
		log.Fatal(err)
	}
	claims, err := renewer.VerifyAuthToken(ctx, "shop", next.AuthToken)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(claims.Claims["role"])

	delete(accounts, "ann@example.com")
	_, err = renewer.Renew(ctx, renew.RenewRequest{
		AppID: "shop", RefreshToken: next.RefreshToken, IP: "192.0.2.1", UserAgent: "browser/1.0",
	})
	fmt.Println(errors.Is(err, renew.ErrInvalidRefreshToken), errors.Is(err, errBanned))
	// Output:
	// editor
	// true true
}

// An audit log that names the subject of every event.
func ExampleWithEventFunc() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	audit := func(ctx context.Context, e renew.Event) {
		logger.LogAttrs(ctx, slog.LevelInfo, string(e.Kind),
			slog.String("app", e.AppID),
			slog.String("subject", e.Subject),
			slog.String("reason", string(e.Reason)),
		)
	}
	renewer, login := exampleLogin(renew.WithEventFunc(audit), renew.WithReuseLeeway(0))
	for range 2 {
		_, _ = renewer.Renew(context.Background(), renew.RenewRequest{
			AppID: "shop", RefreshToken: login.RefreshToken, IP: "192.0.2.1", UserAgent: "browser/1.0",
		})
	}
	// Output:
	// level=INFO msg=issued app=shop subject=ann@example.com reason=""
	// level=INFO msg=renewed app=shop subject=ann@example.com reason=""
	// level=INFO msg=reused app=shop subject=ann@example.com reason=reused
	// level=INFO msg=revoked app=shop subject=ann@example.com reason=reused
}

// Middleware by hand; package httpadapter has one.
func ExampleRenewer_VerifyAuthToken() {
	renewer, login := exampleLogin()
	authenticated := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if !ok {
				http.Error(w, "unauthorized", http.StatusUnauthorized)
				return
			}
			claims, err := renewer.VerifyAuthToken(r.Context(), "shop", token)
			switch {
			case errors.Is(err, renew.ErrInvalidAuthToken):
				http.Error(w, "unauthorized", http.StatusUnauthorized)
			case err != nil:
				http.Error(w, "internal error", http.StatusInternalServerError)
			default:
				next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), claimsKey{}, claims)))
			}
		})
	}
	hello := authenticated(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims := r.Context().Value(claimsKey{}).(*renew.AuthClaims)
		fmt.Fprintf(w, "hello, %s", claims.Subject)
	}))
	fmt.Println(get(hello, login.AuthToken))
	fmt.Println(get(hello, login.RefreshToken))
	// Output:
	// 200 hello, ann@example.com
	// 401 unauthorized
}
