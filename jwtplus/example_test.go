package jwtplus_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/jwtplus"
)

// takeOver is the program of the switch, as docs/jwtplus.md has it: old is the
// JWTPlus database, keys and tokens are the new stores.
func takeOver(ctx context.Context, old *jwtplus.Source, s stores) (http.Handler, error) {
	// While the import runs, and until it has ended without an error.
	tokens := jwtplus.Lazy(old, s.tokens)
	renewer, err := renew.New(s.keys, tokens)
	if err != nil {
		return nil, err
	}
	go func() {
		report, err := jwtplus.Import(ctx, old, s.keys, s.tokens, jwtplus.Options{
			Line:     func(l jwtplus.Line) { log.Print(l) },
			Progress: func(p jwtplus.Progress) { log.Printf("%s: %d of %d", p.Stage, p.Done, p.Total) },
		})
		log.Printf("%+v, error %v", report, err)
	}()
	return jwtplus.Handler(renewer, s.keys), nil
}

// A dry run writes nothing, and says what would happen.
func ExampleImport() {
	rehearse := func(ctx context.Context, old *jwtplus.Source, keys renew.KeyAdmin, tokens renew.TokenStore) error {
		report, err := jwtplus.Import(ctx, old, keys, tokens, jwtplus.Options{
			DryRun: true,
			Line:   func(l jwtplus.Line) { fmt.Println(l) },
		})
		fmt.Printf("%d sessions would be taken over, %d not\n", report.Sessions.Taken, report.Sessions.Rejected)
		return err
	}
	_ = rehearse // it needs a database
	_ = takeOver
	fmt.Println(jwtplus.Line{
		Table: jwtplus.TableTokens, ID: "01M894SDN1G861CBTJ1XXA4966", Reason: jwtplus.ReasonExpired, Detail: "its refresh token has expired",
	})
	// Output: tokens 01M894SDN1G861CBTJ1XXA4966: not taken over: its refresh token has expired (expired)
}
