package renew_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

// A planned change of the signing key: publish the new key, wait until everyone
// who verifies tokens knows it, then sign with it. Sessions continue.
func ExampleKeyAdmin() {
	ctx := context.Background()
	store := memstore.New() // any KeyStore that implements KeyAdmin
	renewer, login := rotationLogin(ctx, store)

	key, err := renew.GenerateSigningKey(renew.ES256)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.PublishSigningKey(ctx, "shop", key); err != nil {
		log.Fatal(err)
	}
	published, err := renewer.KeySet(ctx, "shop")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("keys in the set:", len(published.Keys))
	before := rotationRenewal(ctx, renewer, login)
	fmt.Println("signs already:", before.KeyID == key.KeyID())

	// Wait here: for httpadapter.KeySetMaxAge, so that services that keep the key
	// set have read it again, plus the status interval of the key store, if it has
	// one. Ten minutes cover both with ease.

	if err := store.RotateSigningKey(ctx, "shop", key, time.Now()); err != nil {
		log.Fatal(err)
	}
	after := rotationRenewal(ctx, renewer, before) // the token that the old key signed
	fmt.Println("signs now:", after.KeyID == key.KeyID())
	fmt.Println("same session:", after.SessionID == login.SessionID)
	// Output:
	// keys in the set: 2
	// signs already: false
	// signs now: true
	// same session: true
}

// A signing key has leaked: sign with a new one, wait until every server does,
// then revoke the old one. What it signed is invalid from then on.
func ExampleKeyAdmin_leak() {
	ctx := context.Background()
	store := memstore.New()
	renewer, login := rotationLogin(ctx, store)
	other, err := renewer.Issue(ctx, renew.IssueRequest{AppID: "shop", Subject: "bob@example.com", IP: "192.0.2.2"})
	if err != nil {
		log.Fatal(err)
	}

	key, err := renew.GenerateSigningKey(renew.ES256) // or one that is published already
	if err != nil {
		log.Fatal(err)
	}
	if err := store.RotateSigningKey(ctx, "shop", key, time.Now()); err != nil {
		log.Fatal(err)
	}
	next := rotationRenewal(ctx, renewer, login)

	// Wait here for the status interval of the key store, if it has one: a server
	// that signed with the revoked key would hand out tokens that are invalid.

	if err := store.RevokeKey(ctx, "shop", login.KeyID, time.Now()); err != nil {
		log.Fatal(err)
	}
	_, err = renewer.VerifyAuthToken(ctx, "shop", next.AuthToken)
	fmt.Println("renewed since:", err)
	_, err = renewer.Renew(ctx, renew.RenewRequest{AppID: "shop", RefreshToken: other.RefreshToken, IP: "192.0.2.2"})
	fmt.Println("not renewed since is invalid:", errors.Is(err, renew.ErrInvalidRefreshToken))
	// Output:
	// renewed since: <nil>
	// not renewed since is invalid: true
}

// rotationLogin is an app with its first signing key, and a user who has logged in.
func rotationLogin(ctx context.Context, store *memstore.Store) (*renew.Renewer, *renew.Bundle) {
	if err := renew.EnsureApp(ctx, store, renew.App{ID: "shop", Issuer: "https://shop.example"}, renew.ES256); err != nil {
		log.Fatal(err)
	}
	renewer, err := renew.New(store, store)
	if err != nil {
		log.Fatal(err)
	}
	login, err := renewer.Issue(ctx, renew.IssueRequest{AppID: "shop", Subject: "ann@example.com", IP: "192.0.2.1"})
	if err != nil {
		log.Fatal(err)
	}
	return renewer, login
}

func rotationRenewal(ctx context.Context, renewer *renew.Renewer, b *renew.Bundle) *renew.Bundle {
	next, err := renewer.Renew(ctx, renew.RenewRequest{AppID: "shop", RefreshToken: b.RefreshToken, IP: "192.0.2.1"})
	if err != nil {
		log.Fatal(err)
	}
	return next
}
