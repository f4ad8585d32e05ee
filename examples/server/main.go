// Server is an API with the library built in: login, logout, a resource, and the
// documented endpoint. Start it and paste what it prints; -h lists its flags.
//
// The API itself is in api.go and login.go. This file has what surrounds it.
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
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program immediately
	switch err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "server: %v\nserver: -h lists the flags\n", err)
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "server: %v\n", err)
		os.Exit(1)
	}
}

// run serves until ctx is done.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	c, err := parseFlags(args, stdout)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	slog.SetDefault(logger) // for what the library logs by itself
	s, err := openStores(ctx, c.store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	appKey, err := register(ctx, s.Keys, c, time.Now())
	if err != nil {
		return err
	}

	a := &api{appID: c.app.ID, logger: logger}
	for _, weakness := range s.Diagnosis {
		logger.WarnContext(ctx, "store", "weakness", weakness)
	}
	a.renewer, err = renew.New(s.Keys, s.Tokens, renew.WithRetryWindow(c.retryWindow), renew.WithAhead(s.Ahead), renew.WithEventFunc(a.logEvent))
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	if err := welcome(stdout, listener.Addr(), c, appKey); err != nil {
		return errors.Join(err, listener.Close())
	}

	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait() // before the stores are closed
	defer cancel()
	background.Go(func() { _ = a.renewer.Run(ctx, s.DeleteEvery) }) // it ends with ctx, and logs what fails
	return serve(ctx, listener, withDeadline(a.handler()), logger)
}

const (
	// requestTimeout is for one request. Without a deadline a request waits for a
	// connection to the database as long as its client does.
	requestTimeout = 10 * time.Second
	// shutdownTimeout is for the requests that are under way when the server stops.
	shutdownTimeout = 10 * time.Second
)

func withDeadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// serve responds to requests until ctx is done, and then to those that have
// arrived.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, logger *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10, // an auth token with many claims is long
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	logger.InfoContext(ctx, "serving", "addr", listener.Addr().String())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	logger.InfoContext(ctx, "shutting down")
	lasting, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(lasting); err != nil {
		return errors.Join(fmt.Errorf("shut down: %w", err), server.Close())
	}
	return nil
}
