package sqlstore_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/sqlstore"
)

// A server on SQLite: the first start makes the tables, the app and its first key;
// a later one finds them, and every session.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer func() { _ = os.RemoveAll(dir) }()
	encryptionKey := make([]byte, sqlstore.EncryptionKeyBytes)
	rand.Read(encryptionKey) // yours comes from where you keep secrets
	file := filepath.Join(dir, "renew.db")

	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(2000)")
	check(err)
	check(sqlstore.Migrate(ctx, db, sqlstore.SQLite))
	encrypter, err := sqlstore.NewEncrypter(encryptionKey)
	check(err)
	keys, err := sqlstore.NewKeyStore(ctx, db, sqlstore.SQLite, encrypter)
	check(err)
	tokens, err := sqlstore.NewTokenStore(ctx, db, sqlstore.SQLite)
	check(err)

	appKey, hash := renew.NewAppKey()
	app := renew.App{ID: "shop", Issuer: "https://shop.example", KeyHashes: []renew.AppKeyHash{hash}}
	check(renew.EnsureApp(ctx, keys, app, renew.ES256))
	renewer, err := renew.New(keys, tokens)
	check(err)
	background, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- renewer.Run(background, time.Minute) }() // deletes what has expired

	first, err := renewer.Issue(ctx, renew.IssueRequest{AppID: "shop", Subject: "alice", IP: "192.0.2.1", UserAgent: "example"})
	check(err)
	second, err := renewer.Renew(ctx, renew.RenewRequest{AppID: "shop", RefreshToken: first.RefreshToken, IP: "192.0.2.1", UserAgent: "example"})
	check(err)
	sessions, err := renewer.Sessions(ctx, "shop", "alice")
	check(err)
	fmt.Println("app key:", renewer.AuthenticateApp(ctx, "shop", appKey))
	fmt.Println("same session:", first.SessionID == second.SessionID)
	fmt.Println("sessions of alice:", len(sessions), "renewed", sessions[0].Generation, "time")

	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
	check(keys.Close())
	check(tokens.Close())
	check(db.Close())
	// Output:
	// app key: <nil>
	// same session: true
	// sessions of alice: 1 renewed 1 time
}

// A change of password and the end of all other sessions: both happen, or neither.
func ExampleTokenStore_Tx() {
	changePassword := func(ctx context.Context, db *sql.DB, tokens *sqlstore.TokenStore, renewer *renew.Renewer, user, hash, thisSession string) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // nothing is left to roll back after a commit
		if _, err := tx.ExecContext(ctx, "UPDATE users SET password_hash = ? WHERE id = ?", hash, user); err != nil {
			return err
		}
		if _, err := renewer.With(tokens.Tx(tx)).RevokeSubject(ctx, "shop", user, thisSession); err != nil {
			return err
		}
		return tx.Commit()
	}
	_ = changePassword
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
