// Server is an API that has the library built in: login, logout, a resource, and
// the documented endpoint beside them. Start it and paste what it prints; -h
// lists its flags.
//
// The API itself is in api.go. Here is what surrounds it.
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
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
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
	store, err := openStore(ctx, c.store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := register(ctx, store, c, time.Now()); err != nil {
		return err
	}

	a := &api{appID: c.app.ID, logger: slog.New(slog.NewTextHandler(stderr, nil))}
	a.renewer, err = renew.New(store, store, renew.WithRetryWindow(c.retryWindow), renew.WithEventFunc(a.logEvent))
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	if err := welcome(stdout, listener.Addr(), c); err != nil {
		return errors.Join(err, listener.Close())
	}

	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait() // before the store is closed
	defer cancel()
	background.Go(func() { _ = a.renewer.Run(ctx, time.Minute) }) // it ends with ctx, and logs what fails
	return serve(ctx, listener, a.handler(), a.logger)
}

// register brings the app in the store to what the flags say. A store that
// outlives the program has it already, with keys in use.
func register(ctx context.Context, store stores, c config, now time.Time) error {
	if err := store.CreateApp(ctx, c.app); err != nil {
		if !errors.Is(err, renew.ErrAppExists) {
			return err
		}
		if err := store.UpdateApp(ctx, c.app); err != nil {
			return err
		}
		for _, hash := range c.app.KeyHashes {
			if err := store.AddAppKey(ctx, c.app.ID, hash); err != nil {
				return err
			}
		}
	}
	active, err := store.SigningKey(ctx, c.app.ID)
	switch {
	case err == nil && active.VerificationKey().Algorithm() == c.algorithm:
		return nil
	case err != nil && !errors.Is(err, renew.ErrKeyNotFound):
		return err
	}
	key, err := renew.GenerateSigningKey(c.algorithm)
	if err != nil {
		return err
	}
	return store.RotateSigningKey(ctx, c.app.ID, key, now)
}

// shutdownTimeout is for the requests that are under way when the server stops.
const shutdownTimeout = 10 * time.Second

// serve answers requests until ctx is done, and then those that have arrived.
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
