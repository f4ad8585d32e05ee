// Embed is a minimal API that renews its users' sessions: it logs anyone in, and
// serves the documented endpoint.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
	"github.com/jwtrenew/renew/memstore"
)

func main() {
	ctx, store := context.Background(), memstore.New()
	appKey, hash := renew.NewAppKey()
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

	fmt.Println("app key:", appKey)
	server := &http.Server{Addr: "127.0.0.1:8080", ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
