package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"

	"github.com/jwtrenew/renew"
)

var appKeyCommands = []command{
	{
		name: "app key add", arguments: []string{"APP"},
		summary: "accept another app key: a new one, which is printed once, or one that exists",
		flags:   addAppKey,
	},
	{
		name: "app key remove", arguments: []string{"APP"},
		summary: "reject an app key from now on", flags: removeAppKey,
	},
}

func addAppKey(f *flag.FlagSet) func(context.Context, *call) error {
	file := f.String("file", "", fmt.Sprintf(secretFile, "app key"))
	text := f.String("hash", "", "`hash` of the app key, sha256:… or sha512:…, if that is all that you have")
	return func(ctx context.Context, c *call) error {
		if *file != "" && *text != "" {
			return usage("-file and -hash exclude each other")
		}
		if *text != "" {
			hash, err := renew.ParseAppKeyHash(*text)
			if err != nil {
				return fmt.Errorf("%w: -hash: %w", errUsage, err)
			}
			if err := c.keys.AddAppKey(ctx, c.args[0], hash); err != nil {
				return err
			}
			c.printAppKey(c.args[0], "", hash)
			return nil
		}
		appKey, hash, err := c.appKey(*file)
		if err != nil {
			return err
		}
		if err := c.keys.AddAppKey(ctx, c.args[0], hash); err != nil {
			return err
		}
		c.printAppKey(c.args[0], appKey, hash)
		return nil
	}
}

func removeAppKey(f *flag.FlagSet) func(context.Context, *call) error {
	file := f.String("file", "", fmt.Sprintf(secretFile, "app key"))
	text := f.String("hash", "", "`hash` of the app key, as app show prints it")
	return func(ctx context.Context, c *call) error {
		var hash renew.AppKeyHash
		var err error
		switch {
		case (*file == "") == (*text == ""):
			return usage("app key remove needs -file or -hash")
		case *file != "":
			_, hash, err = c.appKey(*file)
		default:
			if hash, err = renew.ParseAppKeyHash(*text); err != nil {
				err = fmt.Errorf("%w: -hash: %w", errUsage, err)
			}
		}
		if err != nil {
			return err
		}
		if err := c.keys.RemoveAppKey(ctx, c.args[0], hash); err != nil {
			return err
		}
		c.print(appKeyView{App: c.args[0], Hash: hash.String()}, "the app key with the hash %s is removed", hash)
		return nil
	}
}

// appKey returns the app key in a file and its hash; a new one if there is no file.
// The app key is empty if it is not new: it is not printed again.
func (e environment) appKey(file string) (string, renew.AppKeyHash, error) {
	if file == "" {
		key, hash := renew.NewAppKey()
		return key, hash, nil
	}
	data, err := e.readSecret(file)
	if err != nil {
		return "", renew.AppKeyHash{}, fmt.Errorf("app key: %w", err)
	}
	defer clear(data)
	hash, err := renew.HashAppKey(string(bytes.TrimRight(data, "\r\n")))
	return "", hash, err
}

// appKeyView is an app key as JSON has it.
type appKeyView struct {
	App    string `json:"app"`
	AppKey string `json:"app_key,omitempty"` // if it is new
	Hash   string `json:"hash"`
}

func (c *call) printAppKey(appID, appKey string, hash renew.AppKeyHash) {
	v := appKeyView{App: appID, AppKey: appKey, Hash: hash.String()}
	if appKey == "" {
		c.print(v, "app %s accepts the app key with the hash %s", appID, hash)
		return
	}
	c.print(v, "app %s accepts this app key, which is not shown again:\n%s", appID, appKey)
}
