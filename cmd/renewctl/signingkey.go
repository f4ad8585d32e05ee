package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/oklog/ulid/v2"

	"github.com/jwtrenew/renew"
)

var signingKeyCommands = []command{
	{name: "signing-key list", arguments: []string{"APP"}, summary: "list the keys that verify tokens of an app", flags: listSigningKeys},
	{
		name: "signing-key publish", arguments: []string{"APP"},
		summary: "add a key that is listed and verifies, and does not sign yet", flags: publishSigningKey,
	},
	{
		name: "signing-key rotate", arguments: []string{"APP"},
		summary: "sign with another key from now on: a published one, or a new one", flags: rotateSigningKey,
	},
	{
		name: "signing-key revoke", arguments: []string{"APP", "KEY"},
		summary: "reject all that a key has signed", flags: revokeSigningKey,
	},
}

// keyView is a signing key as JSON has it.
type keyView struct {
	ID        string          `json:"id"`
	Algorithm renew.Algorithm `json:"algorithm"`
	State     string          `json:"state"` // active, published or replaced
	End       moment          `json:"end"`   // the exp of the last token that it verifies
}

func (c *call) keyViews(ctx context.Context, appID string) ([]keyView, error) {
	keys, err := c.keys.VerificationKeys(ctx, appID)
	if err != nil {
		return nil, fmt.Errorf("app %q: %w", appID, err)
	}
	active, err := c.keys.SigningKey(ctx, appID)
	if err != nil && !errors.Is(err, renew.ErrKeyNotFound) {
		return nil, err
	}
	views := []keyView{}
	for _, key := range keys {
		state := "published"
		switch {
		case active != nil && active.KeyID() == key.KeyID():
			state = "active"
		case !key.End().IsZero():
			state = "replaced"
		}
		views = append(views, keyView{key.KeyID(), key.Algorithm(), state, moment(key.End())})
	}
	return views, nil
}

func listSigningKeys(*flag.FlagSet) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		views, err := c.keyViews(ctx, c.args[0])
		if err != nil {
			return err
		}
		rows := [][]string{}
		for _, v := range views {
			rows = append(rows, []string{v.ID, string(v.Algorithm), v.State, v.End.String()})
		}
		c.table(views, []string{"KEY", "ALGORITHM", "STATE", "VERIFIES UNTIL"}, rows)
		return nil
	}
}

// keyFlags defines the flags that say which key a command adds.
type keyFlags struct{ alg, file, id *string }

func newKeyFlags(f *flag.FlagSet) keyFlags {
	return keyFlags{
		alg:  f.String("alg", string(renew.ES256), "signature `algorithm`"),
		file: f.String("file", "", fmt.Sprintf(secretFile, "private key in PEM, instead of a new key")),
		id:   f.String("id", "", "`key` ID, a ULID; without it a new one is made"),
	}
}

// key returns the key that the flags say.
func (k keyFlags) key(c *call) (*renew.SigningKey, error) {
	if *k.file == "" {
		if *k.id != "" {
			return nil, usage("-id names the key in -file")
		}
		key, err := renew.GenerateSigningKey(renew.Algorithm(*k.alg))
		if err != nil {
			return nil, fmt.Errorf("%w: -alg: %w", errUsage, err)
		}
		return key, nil
	}
	data, err := c.readSecret(*k.file)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	defer clear(data)
	id := *k.id
	if id == "" {
		id = ulid.Make().String()
	}
	return renew.ParseSigningKey(id, renew.Algorithm(*k.alg), data)
}

func publishSigningKey(f *flag.FlagSet) func(context.Context, *call) error {
	flags := newKeyFlags(f)
	return func(ctx context.Context, c *call) error {
		key, err := flags.key(c) //nolint:contextcheck // it signs once, in memory
		if err != nil {
			return err
		}
		if err := c.keys.PublishSigningKey(ctx, c.args[0], key); err != nil {
			return err
		}
		v := keyView{key.KeyID(), key.VerificationKey().Algorithm(), "published", moment{}}
		c.print(v, "key %s is published; when all who verify tokens have read it, run:\nrenewctl signing-key rotate -published %s %s", key.KeyID(), key.KeyID(), c.args[0])
		return nil
	}
}

func rotateSigningKey(f *flag.FlagSet) func(context.Context, *call) error {
	flags := newKeyFlags(f)
	published := f.String("published", "", "`key` ID of a published key, instead of a new key")
	return func(ctx context.Context, c *call) error {
		var key *renew.SigningKey
		var err error
		if *published == "" {
			key, err = flags.key(c) //nolint:contextcheck // it signs once, in memory
		} else if store, ok := c.keys.(renew.PublishedKeyStore); ok {
			key, err = store.PublishedKey(ctx, c.args[0], *published)
		} else {
			err = errors.New("this store does not give published keys back: use -file")
		}
		if err != nil {
			return fmt.Errorf("app %q: %w", c.args[0], err)
		}
		if err := c.keys.RotateSigningKey(ctx, c.args[0], key, c.now()); err != nil {
			return err
		}
		c.print(keyView{key.KeyID(), key.VerificationKey().Algorithm(), "active", moment{}}, "app %s signs with key %s", c.args[0], key.KeyID())
		return nil
	}
}

func revokeSigningKey(*flag.FlagSet) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		appID, keyID := c.args[0], c.args[1]
		active, err := c.keys.SigningKey(ctx, appID)
		switch {
		case errors.Is(err, renew.ErrKeyNotFound):
		case err != nil:
			return err
		case active.KeyID() == keyID:
			return errors.New("the key is the active one: rotate first, or nothing can be issued or renewed; see docs/operations.md")
		}
		if err := c.keys.RevokeKey(ctx, appID, keyID, c.now()); err != nil {
			return err
		}
		c.print(keyView{ID: keyID, State: "revoked"}, "key %s of app %s is revoked", keyID, appID)
		return nil
	}
}
