package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/storeurl"
)

// storeUsage is the help of the flag -store.
const storeUsage = "`place` where apps, keys and sessions are kept: " + storeurl.Usage + "; see also $" + storeurl.EncryptionKeyVariable

// openStores opens the stores that the flag -store names.
func openStores(ctx context.Context, url string) (*storeurl.Stores, error) {
	s, err := storeurl.Open(ctx, url, os.Getenv(storeurl.EncryptionKeyVariable))
	if errors.Is(err, storeurl.ErrUsage) {
		return nil, fmt.Errorf("%w: -store: %w", errUsage, err)
	}
	if err != nil {
		return nil, fmt.Errorf("-store: %w", err)
	}
	return s, nil
}

// register makes the app in the store what the flags say, and returns its app
// key, or an empty one if only a hash of it is known: the store has the app from
// an earlier start, or from another server.
func register(ctx context.Context, keys storeurl.Keys, c config, now time.Time) (appKey string, err error) {
	appKey, hash := renew.NewAppKey()
	if c.appKey != "" {
		appKey = c.appKey
		if hash, err = renew.HashAppKey(appKey); err != nil {
			return "", err
		}
	}
	app := c.app
	app.KeyHashes = []renew.AppKeyHash{hash}
	if err := renew.EnsureApp(ctx, keys, app, c.algorithm); err != nil {
		return "", err
	}
	stored, err := keys.App(ctx, app.ID)
	if err != nil {
		return "", err
	}
	// No flag names these: an app that was there keeps them, and so its tokens.
	app.Issuer, app.FormerIssuers, app.MaxSessions = stored.Issuer, stored.FormerIssuers, stored.MaxSessions
	if err := keys.UpdateApp(ctx, app); err != nil {
		return "", err
	}
	switch {
	case c.keepAppKeys || len(stored.KeyHashes) == 0:
		err = keys.AddAppKey(ctx, app.ID, hash)
	case c.appKey != "":
		err = setAppKey(ctx, keys, app.ID, hash)
	case !slices.Contains(stored.KeyHashes, hash):
		appKey = ""
	}
	if err != nil {
		return "", err
	}
	return appKey, useAlgorithm(ctx, keys, app.ID, c.algorithm, now)
}

// setAppKey makes an app key the only one of the app. It accepts the new one
// before it rejects the others, so that a server that stops in between has no
// caller locked out.
func setAppKey(ctx context.Context, keys storeurl.Keys, appID string, hash renew.AppKeyHash) error {
	const tries = 5 // another server may start with another -app-key at the same time
	for range tries {
		app, err := keys.App(ctx, appID)
		if err != nil {
			return err
		}
		if slices.Equal(app.KeyHashes, []renew.AppKeyHash{hash}) {
			return nil
		}
		if err := keys.AddAppKey(ctx, appID, hash); err != nil {
			return err
		}
		for _, other := range app.KeyHashes {
			if other == hash {
				continue
			}
			if err := keys.RemoveAppKey(ctx, appID, other); err != nil && !errors.Is(err, renew.ErrKeyNotFound) {
				return err
			}
		}
	}
	return fmt.Errorf("-app-key: another server changes the app keys of app %q; start all servers with the same one", appID)
}

// useAlgorithm gives the app a signing key for another algorithm than before, or
// one in place of a key that was revoked. Sessions continue. Services that keep
// the key set learn of the key when they read it again; a change of keys that they
// do not notice is in docs/operations.md.
func useAlgorithm(ctx context.Context, keys storeurl.Keys, appID string, alg renew.Algorithm, now time.Time) error {
	active, err := keys.SigningKey(ctx, appID)
	switch {
	case err == nil && active.VerificationKey().Algorithm() == alg:
		return nil
	case err != nil && !errors.Is(err, renew.ErrKeyNotFound):
		return err
	}
	key, err := renew.GenerateSigningKey(alg) //nolint:contextcheck // it signs once, in memory
	if err != nil {
		return err
	}
	return keys.RotateSigningKey(ctx, appID, key, now)
}
