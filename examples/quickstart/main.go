// Quickstart follows one session from its login to its end, in memory and
// without a network, and prints each step.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	now := time.Now()
	clock := func() time.Time { return now } // so that step 5 does not wait a minute: leave it out of a service

	store := memstore.New()
	if err := renew.EnsureApp(ctx, store, renew.App{ID: "shop", Issuer: "https://shop.example"}, renew.ES256); err != nil {
		return err
	}
	renewer, err := renew.New(store, store, renew.WithClock(clock))
	if err != nil {
		return err
	}
	key, err := store.SigningKey(ctx, "shop")
	if err != nil {
		return err
	}
	fmt.Printf("1. app:     shop, with signing key %s (%s)\n", key.KeyID(), renew.ES256)

	login, err := renewer.Issue(ctx, renew.IssueRequest{
		AppID: "shop", Subject: "ann@example.com", IP: "192.0.2.1", UserAgent: "browser/1.0",
		Claims: map[string]any{"role": "admin"},
	})
	if err != nil {
		return err
	}
	fmt.Printf("2. login:   session %s, token %s\n", login.SessionID, login.TokenID)

	next, err := renewer.Renew(ctx, request(login))
	if err != nil {
		return err
	}
	fmt.Printf("3. renewal: session %s, token %s\n", next.SessionID, next.TokenID)

	claims, err := renewer.VerifyAuthToken(ctx, "shop", next.AuthToken)
	if err != nil {
		return err
	}
	fmt.Printf("            the auth token says %s, role %s\n", claims.Subject, claims.Claims["role"])

	_, err = renewer.Renew(ctx, request(login))
	fmt.Printf("4. the used token immediately, as by a double click:    %s\n", response(err))

	now = now.Add(time.Minute)
	_, err = renewer.Renew(ctx, request(login))
	fmt.Printf("5. the used token a minute later, as by a thief:        %s\n", response(err))

	_, err = renewer.Renew(ctx, request(next))
	fmt.Printf("6. the token of step 3, after step 5 ended the session: %s\n", response(err))
	return nil
}

// request presents the bundle's refresh token.
func request(b *renew.Bundle) renew.RenewRequest {
	return renew.RenewRequest{AppID: "shop", RefreshToken: b.RefreshToken, IP: "192.0.2.1", UserAgent: "browser/1.0"}
}

// response is what a client is told, with the reason for a log.
func response(err error) string {
	var rejected *renew.TokenError
	if errors.As(err, &rejected) {
		return fmt.Sprintf("%v (%s)", renew.ErrInvalidRefreshToken, rejected.Reason)
	}
	return fmt.Sprint("unexpected: ", err)
}
