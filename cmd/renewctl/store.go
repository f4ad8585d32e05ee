package main

import (
	"context"
	"errors"
	"fmt"
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

// hasPassword reports whether a URL, or the MySQL driver's own form of one, has a
// password. In doubt it has.
func hasPassword(name string) bool {
	scheme, rest, _ := strings.Cut(name, ":")
	if scheme == "sqlite" {
		return false
	}
	user, _, found := strings.Cut(rest, "@")
	return found && strings.Contains(user, ":") || strings.Contains(rest, "password=")
}
