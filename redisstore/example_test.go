package redisstore_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/keycrypt"
	"github.com/jwtrenew/renew/redisstore"
)

// A server on a cluster, which continues through failovers.
func Example() {
	ctx := context.Background()
	client, err := redisstore.NewClient("redis+cluster://redis-1.example,redis-2.example,redis-3.example")
	check(err)
	defer func() { _ = client.Close() }()
	encryptionKey := make([]byte, keycrypt.KeyBytes)
	rand.Read(encryptionKey) // yours comes from where you keep secrets
	encrypter, err := keycrypt.New(encryptionKey)
	check(err)
	keys, err := redisstore.NewKeyStore(ctx, client, encrypter)
	check(err)
	tokens, err := redisstore.NewTokenStore(ctx, client)
	check(err)
	for _, problem := range tokens.Diagnosis() {
		log.Print(problem)
	}
	_, hash := renew.NewAppKey()
	app := renew.App{ID: "shop", Issuer: "https://shop.example", KeyHashes: []renew.AppKeyHash{hash}}
	check(renew.EnsureApp(ctx, keys, app, renew.ES256))
	renewer, err := renew.New(keys, tokens, renew.WithAhead(renew.AheadAdopted))
	check(err)
	sessions, err := renewer.Sessions(ctx, "shop", "alice")
	check(err)
	fmt.Println(len(sessions))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
