package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/jwtrenew/renew/storeurl"
)

// storeVariable names the environment variable with the URL of the store.
const storeVariable = "RENEW_STORE"

// open opens the stores that the flag or the environment names. Unless the command
// makes something, an SQLite file must be there: a mistyped name is not an empty
// store.
func (e environment) open(ctx context.Context, flag string, makes bool) (*storeurl.Stores, error) {
	name := flag
	switch {
	case hasPassword(flag):
		return nil, usage("-store: the URL has a password, which every user of this machine can read: put it into $%s", storeVariable)
	case name == "":
		name = e.getenv(storeVariable)
	}
	switch {
	case name == "":
		return nil, usage("no store: set $%s, or -store", storeVariable)
	case name == storeurl.Memory:
		return nil, usage("a store in memory ends with renewctl")
	}
	if file, isFile := strings.CutPrefix(name, "sqlite:"); isFile && !makes {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("open the store: %w", err)
		}
	}
	s, err := storeurl.Open(ctx, name, e.getenv(storeurl.EncryptionKeyVariable))
	if errors.Is(err, storeurl.ErrUsage) {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	return s, nil
}

// hasPassword reports whether a URL has a password, as far as it can be told: in
// doubt it has one.
func hasPassword(name string) bool {
	scheme, rest, _ := strings.Cut(name, ":")
	if scheme == "sqlite" || name == "" {
		return false
	}
	u, err := url.Parse(name)
	if err != nil {
		return true // such as the MySQL driver's own form
	}
	_, has := u.User.Password()
	return has || u.Query().Has("password") || strings.Contains(rest, "(") && strings.Contains(rest, "@")
}
