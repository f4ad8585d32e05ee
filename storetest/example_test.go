package storetest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
	"github.com/jwtrenew/renew/storetest"
)

// The test of a store that lives in memory. One that is reached over a network
// is opened anew each time, and closed with tb.Cleanup.
func ExampleTestTokenStore() {
	_ = func(t *testing.T) { // func TestLaws(t *testing.T)
		store := memstore.New()
		storetest.TestTokenStore(t, func(tb testing.TB) renew.TokenStore { return store })
	}
}

// A database that does a rotation, and whose result is lost.
func ExampleNewFaulty() {
	ctx := context.Background()
	store := memstore.New()
	faulty := storetest.NewFaulty(store, func(c storetest.Call) storetest.Fault {
		if c.Method == storetest.Rotate {
			return storetest.Fault{Lose: errors.New("connection reset")}
		}
		return storetest.Fault{}
	})

	session := renew.Session{AppID: "app", ID: "session", TokenID: "first"}
	if err := faulty.CreateSession(ctx, session); err != nil {
		fmt.Println(err)
	}
	next := session
	next.TokenID = "second"
	fmt.Println("Rotate:", faulty.Rotate(ctx, "first", next))
	session, err := store.Session(ctx, "app", "session")
	fmt.Println("The session is at:", session.TokenID, err)
	// Output:
	// Rotate: connection reset
	// The session is at: second <nil>
}
