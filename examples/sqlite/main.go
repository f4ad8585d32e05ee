// Sqlite is examples/embed with a store that survives a restart: three lines of main
// are replaced, and openSQLite is added. PostgreSQL and MySQL take another driver,
// another data source name and another dialect.
//
// Two secrets come from the environment: APP_KEY, which callers of the endpoint
// send, and ENCRYPTION_KEY, 32 random bytes in base64, which encrypts the signing
// keys in the database.
package main

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
	"github.com/jwtrenew/renew/sqlstore"
)

func main() {
	ctx := context.Background()
	store, err := openSQLite(ctx, "renew.db", os.Getenv("ENCRYPTION_KEY"))
	check(err)
	hash, err := renew.HashAppKey(os.Getenv("APP_KEY"))
	check(err)
	app := renew.App{ID: "shop", Issuer: "https://shop.example", KeyHashes: []renew.AppKeyHash{hash}}
	check(renew.EnsureApp(ctx, store, app, renew.ES256))
	renewer, err := renew.New(store, store)
	check(err)
	go func() { check(renewer.Run(ctx, time.Minute)) }() // deletes what has expired

	http.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		bundle, err := renewer.Issue(r.Context(), renew.IssueRequest{ // your login has checked who this is
			AppID: "shop", Subject: "ann@example.com", IP: httpadapter.ClientIP(r), UserAgent: r.UserAgent(),
		})
		if err != nil {
			http.Error(w, "internal error", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if err := json.NewEncoder(w).Encode(bundle); err != nil {
			log.Print("login: ", err)
		}
	})
	http.Handle("/app/", httpadapter.New(renewer)) // POST /app/shop/renew, GET /app/shop/jwks.json

	server := &http.Server{Addr: "127.0.0.1:8080", ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// sqliteStore is both stores in one value, as memstore.Store is.
type sqliteStore struct {
	*sqlstore.KeyStore
	*sqlstore.TokenStore
}

// openSQLite opens the stores in the file. The database stays open until the
// program ends.
func openSQLite(ctx context.Context, file, encryptionKey string) (s sqliteStore, err error) {
	key, err := base64.StdEncoding.DecodeString(encryptionKey)
	if err != nil {
		return s, fmt.Errorf("encryption key: %w", err)
	}
	encrypter, err := sqlstore.NewEncrypter(key)
	if err != nil {
		return s, err
	}
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(2000)")
	if err != nil {
		return s, err
	}
	if err := sqlstore.Migrate(ctx, db, sqlstore.SQLite); err != nil {
		return s, err
	}
	if s.KeyStore, err = sqlstore.NewKeyStore(ctx, db, sqlstore.SQLite, encrypter); err != nil {
		return s, err
	}
	s.TokenStore, err = sqlstore.NewTokenStore(ctx, db, sqlstore.SQLite)
	return s, err
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
