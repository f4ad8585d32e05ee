// Web is a page that stays signed in: a login, the session and its countdown,
// what the client does, and the user's devices. Start it, open the address that
// it prints, and let the auth token expire in as many tabs as you like.
//
// The API is in site.go, the page in static.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program immediately
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "web: %v\n", err)
		os.Exit(1)
	}
}

// run serves until ctx is done.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("web", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:8090", "loopback `address` to listen on; port 0 takes a free one")
	app := renew.App{ID: appID, Issuer: "https://web.example"}
	flags.DurationVar(&app.AuthTTL, "auth-ttl", time.Minute, "lifetime of an auth token")
	flags.DurationVar(&app.RefreshTTL, "refresh-ttl", 12*time.Hour, "lifetime of a refresh token")
	if err := flags.Parse(args); err != nil {
		return err
	}
	logger := slog.New(slog.NewJSONHandler(stderr, nil))

	store := memstore.New()
	if err := renew.EnsureApp(ctx, store, app, renew.ES256); err != nil {
		return err
	}
	renewer, err := renew.New(store, store, renew.WithEventFunc(logEvent(logger)))
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *addr)
	if err != nil {
		return err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if _, err := fmt.Fprintf(stdout, "Open http://localhost:%d in a browser. Ctrl-C ends it.\n", port); err != nil {
		return errors.Join(err, listener.Close())
	}

	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	background.Go(func() {
		if err := renewer.Run(ctx, time.Minute); err != nil && ctx.Err() == nil {
			logger.Error("deleting expired sessions failed", "error", err)
		}
	})
	return serve(ctx, listener, newSite(renewer, logger), logger)
}

// serve serves until ctx is done, and then finishes the requests under way.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, logger *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	lasting, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(lasting); err != nil {
		return errors.Join(fmt.Errorf("shut down: %w", err), server.Close())
	}
	return nil
}

// logEvent is the audit log.
func logEvent(logger *slog.Logger) func(context.Context, renew.Event) {
	return func(ctx context.Context, e renew.Event) {
		logger.LogAttrs(ctx, slog.LevelInfo, string(e.Kind),
			slog.String("session", e.SessionID),
			slog.String("token_id", e.TokenID),
			slog.String("subject", e.Subject),
			slog.String("reason", string(e.Reason)),
			slog.String("ip", e.IP),
		)
	}
}
