package dynamostore_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/dynamostore"
	"github.com/jwtrenew/renew/keycrypt"
)

// A server whose table exists; region and credentials come from the environment.
func Example() {
	ctx := context.Background()
	client, table, err := dynamostore.NewClient(ctx, "dynamodb://sessions")
	check(err)
	encryptionKey := make([]byte, keycrypt.KeyBytes)
	rand.Read(encryptionKey) // yours comes from where you keep secrets
	encrypter, err := keycrypt.New(encryptionKey)
	check(err)
	keys, err := dynamostore.NewKeyStore(ctx, client, table, encrypter)
	check(err)
	tokens, err := dynamostore.NewTokenStore(ctx, client, table)
	check(err)
	for _, problem := range tokens.Diagnosis() {
		log.Print(problem)
	}
	_, hash := renew.NewAppKey()
	app := renew.App{ID: "shop", Issuer: "https://shop.example", KeyHashes: []renew.AppKeyHash{hash}}
	check(renew.EnsureApp(ctx, keys, app, renew.ES256))
	renewer, err := renew.New(keys, tokens)
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
