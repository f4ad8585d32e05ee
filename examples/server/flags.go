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
	"github.com/jwtrenew/renew/storeurl"
)

// errUsage means that the command line is wrong.
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
	appKey      string // empty: none is given
	keepAppKeys bool   // beside appKey
	algorithm   renew.Algorithm
	retryWindow time.Duration
}

// parseFlags reads the command line. Help goes to out, and is flag.ErrHelp.
func parseFlags(args []string, out io.Writer) (config, error) {
	var c config
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.StringVar(&c.addr, "addr", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	flags.StringVar(&c.store, "store", storeurl.Memory, storeUsage)
	flags.StringVar(&c.app.ID, "app-id", "demo", "`name` of the app, in the endpoint's path and in the tokens' iss")
	flags.StringVar(&c.appKey, "app-key", "", "`secret` that callers of the endpoint send: from now on the only valid one; without it the app keeps the app keys that it has, and a new app gets a new one")
	added := flags.String("add-app-key", "", "`secret` that is valid in addition to those that the app has")
	flags.StringVar((*string)(&c.algorithm), "alg", string(renew.ES256), "signature `algorithm`: "+listed(algorithms))
	flags.DurationVar(&c.app.AuthTTL, "auth-ttl", renew.DefaultAuthTTL, "lifetime of an auth token")
	flags.DurationVar(&c.app.RefreshTTL, "refresh-ttl", renew.DefaultRefreshTTL, "lifetime of a refresh token")
	flags.DurationVar(&c.app.RefreshNotBefore, "refresh-not-before", 0, "how long after its issue a refresh token becomes valid (default 0s)")
	flags.DurationVar(&c.app.SessionTTL, "session-ttl", 0, "how long after the login a session ends, however often it is renewed; 0s is never (default 0s)")
	flags.DurationVar(&c.retryWindow, "retry-window", 0, "for how long a used refresh token gets the same response again; 0s is never (default 0s)")
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
		return config{}, fmt.Errorf("%w: argument %d is not a flag", errUsage, len(args)-flags.NArg()+1) // and may be a secret
	}
	flags.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "app-key":
			err = errors.Join(err, checkAppKey(f))
		case "add-app-key":
			err = errors.Join(err, checkAppKey(f))
			if c.appKey != "" {
				err = errors.Join(err, errors.New("-app-key and -add-app-key exclude each other"))
			}
			c.appKey, c.keepAppKeys = *added, true
		}
	})
	if err != nil {
		return config{}, fmt.Errorf("%w: %w", errUsage, err)
	}
	c.app.Issuer = c.app.ID
	if err := c.check(); err != nil {
		return config{}, fmt.Errorf("%w: %w", errUsage, err)
	}
	return c, nil
}

// check says what is wrong with the values: before the start, and not at the first
// login.
func (c config) check() error {
	if err := checkAddress(c.addr); err != nil {
		return fmt.Errorf("-addr: %w", err)
	}
	if !isPathSegment(c.app.ID) {
		return fmt.Errorf("-app-id: %q is not a segment of a path: use letters, digits, dashes and underscores", c.app.ID)
	}
	if !slices.Contains(algorithms, c.algorithm) {
		return fmt.Errorf("-alg: %q is not one of %s", c.algorithm, listed(algorithms))
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

// isPathSegment reports whether s needs no escape in a path.
func isPathSegment(s string) bool {
	return s != "." && s != ".." && url.PathEscape(s) == s
}

// checkAppKey says what is wrong with an app key, without showing it. It also
// rejects a quote, which would end the header in the printed commands.
func checkAppKey(f *flag.Flag) error {
	key := f.Value.String()
	if strings.Contains(key, "'") {
		return fmt.Errorf("-%s: it has a quote", f.Name)
	}
	if _, err := renew.HashAppKey(key); err != nil {
		return fmt.Errorf("-%s: %w", f.Name, err)
	}
	return nil
}

func listed(algorithms []renew.Algorithm) string {
	names := make([]string, len(algorithms))
	for i, alg := range algorithms {
		names[i] = string(alg)
	}
	return strings.Join(names, ", ")
}
