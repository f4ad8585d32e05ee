package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
)

// errUsage: the command line makes no sense.
var errUsage = errors.New("bad command line")

var algorithms = []renew.Algorithm{
	renew.ES256, renew.ES384, renew.ES512, renew.EdDSA,
	renew.RS256, renew.RS384, renew.RS512, renew.PS256, renew.PS384, renew.PS512,
}

// config is what the flags say.
type config struct {
	addr        string
	store       string
	app         renew.App
	appKey      string
	algorithm   renew.Algorithm
	retryWindow time.Duration
}

// parseFlags reads the command line. Help goes to out, and is flag.ErrHelp.
func parseFlags(args []string, out io.Writer) (config, error) {
	var c config
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.StringVar(&c.addr, "addr", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	flags.StringVar(&c.store, "store", inMemory, storeUsage)
	flags.StringVar(&c.app.ID, "app-id", "demo", "`name` of the app, in the endpoint's path and in the tokens' iss")
	flags.StringVar(&c.appKey, "app-key", "", "`secret` that callers of the endpoint send; without it, a new one at every start")
	flags.StringVar((*string)(&c.algorithm), "alg", string(renew.ES256), "signature `algorithm`: "+listed(algorithms))
	flags.DurationVar(&c.app.AuthTTL, "auth-ttl", renew.DefaultAuthTTL, "lifetime of an auth token")
	flags.DurationVar(&c.app.RefreshTTL, "refresh-ttl", renew.DefaultRefreshTTL, "lifetime of a refresh token")
	flags.DurationVar(&c.app.RefreshNotBefore, "refresh-not-before", 0, "how long after its issue a refresh token becomes good (default 0s)")
	flags.DurationVar(&c.app.SessionTTL, "session-ttl", 0, "how long after the login a session ends, however often renewed; 0s is never (default 0s)")
	flags.DurationVar(&c.retryWindow, "retry-window", 0, "for how long a spent refresh token gets the same answer again; 0s is never (default 0s)")
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		if _, err := io.WriteString(out, help); err != nil {
			return config{}, err
		}
		flags.SetOutput(out)
		flags.PrintDefaults()
		return config{}, err
	case err != nil:
		return config{}, fmt.Errorf("%w: %w", errUsage, err)
	case flags.NArg() > 0:
		return config{}, fmt.Errorf("%w: %q is not a flag", errUsage, flags.Arg(0))
	}
	c.app.Issuer = c.app.ID
	if c.appKey == "" {
		c.appKey, _ = renew.NewAppKey()
	}
	if err := c.check(); err != nil {
		return config{}, fmt.Errorf("%w: %w", errUsage, err)
	}
	hash, err := renew.HashAppKey(c.appKey)
	if err != nil {
		return config{}, fmt.Errorf("%w: -app-key: %w", errUsage, err)
	}
	c.app.KeyHashes = []renew.AppKeyHash{hash}
	return c, nil
}

// check says what is wrong with the values, so that nobody learns it from the
// first login.
func (c config) check() error {
	if err := checkAddress(c.addr); err != nil {
		return fmt.Errorf("-addr: %w", err)
	}
	if !isPathSegment(c.app.ID) {
		return fmt.Errorf("-app-id: %q is no part of a path: take letters, digits, dashes and underscores", c.app.ID)
	}
	if !isHeaderValue(c.appKey) {
		return errors.New("-app-key: it has a quote, a space or a character that is not ASCII") // and stays a secret
	}
	if !slices.Contains(algorithms, c.algorithm) {
		return fmt.Errorf("-alg: %q is none of %s", c.algorithm, listed(algorithms))
	}
	for _, d := range []struct {
		flag           string
		value, minimum time.Duration
	}{
		{"-auth-ttl", c.app.AuthTTL, time.Second},
		{"-refresh-ttl", c.app.RefreshTTL, time.Second},
		{"-refresh-not-before", c.app.RefreshNotBefore, 0},
		{"-session-ttl", c.app.SessionTTL, 0},
	} {
		if d.value < d.minimum || d.value%time.Second != 0 {
			return fmt.Errorf("%s: %v is not whole seconds from %v", d.flag, d.value, d.minimum)
		}
	}
	if c.app.RefreshNotBefore >= c.app.RefreshTTL {
		return fmt.Errorf("-refresh-not-before: %v is not below the -refresh-ttl of %v", c.app.RefreshNotBefore, c.app.RefreshTTL)
	}
	if c.retryWindow < 0 {
		return fmt.Errorf("-retry-window: %v is negative", c.retryWindow)
	}
	return c.app.Validate()
}

func checkAddress(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q is not a number from 0 to 65535", port)
	}
	return nil
}

// isPathSegment reports whether s stands in a URL as it is.
func isPathSegment(s string) bool {
	return s != "." && s != ".." && url.PathEscape(s) == s
}

// isHeaderValue reports whether s can be sent in a header, and stands between
// quotes in a shell.
func isHeaderValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '\'' })
}

func listed(algorithms []renew.Algorithm) string {
	names := make([]string, len(algorithms))
	for i, alg := range algorithms {
		names[i] = string(alg)
	}
	return strings.Join(names, ", ")
}
