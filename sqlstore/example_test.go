package sqlstore_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/sqlstore"
)

// A server on SQLite: the first start makes the app and its first key, and a
// later one finds them, and every session, as they were.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "renew.db")+"?_pragma=busy_timeout(2000)")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := sqlstore.Migrate(ctx, db, sqlstore.SQLite); err != nil {
		log.Fatal(err)
	}
	tokens, err := sqlstore.NewTokenStore(ctx, db, sqlstore.SQLite)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = tokens.Close() }()

	encryptionKey := make([]byte, sqlstore.EncryptionKeyBytes)
	rand.Read(encryptionKey) // yours comes from where you keep secrets
	encrypter, err := sqlstore.NewEncrypter(encryptionKey)
	if err != nil {
		log.Fatal(err)
	}
	keys, err := sqlstore.NewKeyStore(ctx, db, sqlstore.SQLite, encrypter, sqlstore.WithStatusInterval(5*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = keys.Close() }()

	_, hash := renew.NewAppKey()
	if err := keys.CreateApp(ctx, renew.App{ID: "shop", Issuer: "shop.example", KeyHashes: []renew.AppKeyHash{hash}}); err != nil {
		log.Fatal(err)
	}
	key, err := renew.GenerateSigningKey(renew.ES256)
	if err != nil {
		log.Fatal(err)
	}
	if err := keys.RotateSigningKey(ctx, "shop", key, time.Now()); err != nil {
		log.Fatal(err)
	}

	renewer, err := renew.New(keys, tokens)
	if err != nil {
		log.Fatal(err)
	}
	first, err := renewer.Issue(ctx, renew.IssueRequest{AppID: "shop", Subject: "alice", IP: "192.0.2.1", UserAgent: "example"})
	if err != nil {
		log.Fatal(err)
	}
	second, err := renewer.Renew(ctx, renew.RenewRequest{AppID: "shop", RefreshToken: first.RefreshToken, IP: "192.0.2.1", UserAgent: "example"})
	if err != nil {
		log.Fatal(err)
	}
	sessions, err := renewer.Sessions(ctx, "shop", "alice")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("same session:", first.SessionID == second.SessionID)
	fmt.Println("sessions of alice:", len(sessions), "renewed", sessions[0].Generation, "time")
	// Output:
	// same session: true
	// sessions of alice: 1 renewed 1 time
}
