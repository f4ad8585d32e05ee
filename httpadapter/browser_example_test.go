package httpadapter_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
	"github.com/jwtrenew/renew/js"
)

// A site whose pages are signed in by a cookie. What the page's client sends is
// sent here by Go's, with a cookie jar.
func ExampleNewBrowser() {
	renewer, _ := exampleRenewer()
	mux := http.NewServeMux()
	browser := httpadapter.NewBrowser(renewer, "shop")
	mux.Handle("/auth/", browser) // POST /auth/renew, POST /auth/logout
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		bundle, err := renewer.Issue(r.Context(), renew.IssueRequest{ // your login has checked who this is
			AppID: "shop", Subject: "ann@example.com", IP: httpadapter.ClientIP(r), UserAgent: r.UserAgent(),
		})
		if err != nil {
			http.Error(w, "internal error", http.StatusInternalServerError)
			return
		}
		browser.SetSession(w, bundle)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /renew.js", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(w, js.Client()) // github.com/jwtrenew/renew/js, or npm install @jwtrenew/browser
	})
	server := httptest.NewTLSServer(mux)
	defer server.Close()

	client := server.Client()
	var err error
	if client.Jar, err = cookiejar.New(nil); err != nil {
		log.Fatal(err)
	}
	for _, path := range []string{"/login", "/auth/renew", "/auth/logout", "/auth/renew"} {
		resp, err := client.Post(server.URL+path, "application/json", strings.NewReader("{}"))
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
			body = []byte("an auth token and its lifetime")
		case http.StatusNoContent:
			body = []byte("no content")
		}
		fmt.Println(path, resp.StatusCode, string(body))
	}
	// Output:
	// /login 204 no content
	// /auth/renew 200 an auth token and its lifetime
	// /auth/logout 204 no content
	// /auth/renew 401 {"message":"signed out"}
}
