package memstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

// One store serves as both. A session is issued at login; its refresh token is
// good for one renewal.
func Example() {
	ctx := context.Background()
	store := memstore.New()

	appKey, hash := renew.NewAppKey() // the caller keeps appKey; only its hash is stored
	app := renew.App{ID: "shop", Issuer: "https://shop.example", KeyHashes: []renew.AppKeyHash{hash}}
	if err := store.CreateApp(ctx, app); err != nil {
		log.Fatal(err)
	}
	key, err := renew.GenerateSigningKey(renew.ES256)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.RotateSigningKey(ctx, "shop", key, time.Now()); err != nil {
		log.Fatal(err)
	}

	r, err := renew.New(store, store)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("app key:", r.AuthenticateApp(ctx, "shop", appKey))

	issued, err := r.Issue(ctx, renew.IssueRequest{AppID: "shop", Subject: "ann", IP: "192.0.2.1", UserAgent: "example"})
	if err != nil {
		log.Fatal(err)
	}
	request := renew.RenewRequest{AppID: "shop", RefreshToken: issued.RefreshToken, IP: "192.0.2.1", UserAgent: "example"}
	renewed, err := r.Renew(ctx, request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("same session:", renewed.SessionID == issued.SessionID)
	fmt.Println("another token:", renewed.TokenID != issued.TokenID)

	_, err = r.Renew(ctx, request)
	fmt.Println("used once more:", errors.Is(err, renew.ErrInvalidRefreshToken))
	// Output:
	// app key: <nil>
	// same session: true
	// another token: true
	// used once more: true
}

// The callers of an app change to a new app key one by one, and none is ever
// turned away.
func ExampleStore_AddAppKey() {
	ctx := context.Background()
	store := memstore.New()
	_, old := renew.NewAppKey()
	if err := store.CreateApp(ctx, renew.App{ID: "shop", Issuer: "shop", KeyHashes: []renew.AppKeyHash{old}}); err != nil {
		log.Fatal(err)
	}

	_, replacement := renew.NewAppKey()
	if err := store.AddAppKey(ctx, "shop", replacement); err != nil {
		log.Fatal(err)
	}
	// Both are good while the callers are given the new one.
	if err := store.RemoveAppKey(ctx, "shop", old); err != nil {
		log.Fatal(err)
	}

	app, err := store.App(ctx, "shop")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(app.KeyHashes), app.KeyHashes[0] == replacement)
	// Output: 1 true
}
