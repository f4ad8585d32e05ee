package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
)

var appCommands = []command{
	{
		name: "app create", arguments: []string{"APP"}, makes: true,
		summary: "create an app with its first signing key and an app key, which is printed once",
		flags:   createApp,
	},
	{name: "app list", summary: "list the apps", flags: listApps},
	{name: "app show", arguments: []string{"APP"}, summary: "show an app and its app keys' hashes", flags: showApp},
	{
		name: "app update", arguments: []string{"APP"},
		summary: "change settings of an app: those whose flags are given; tokens of an earlier issuer stay valid",
		flags:   updateApp,
	},
}

// appFlags defines a flag for each setting of an app.
func appFlags(f *flag.FlagSet, app *renew.App) {
	f.StringVar(&app.Issuer, "issuer", "", "`name` in the tokens' iss; by default the app's ID")
	f.DurationVar(&app.AuthTTL, "auth-ttl", 0, fmt.Sprintf("lifetime of an auth token; 0s is %v", renew.DefaultAuthTTL))
	f.DurationVar(&app.AuthNotBefore, "auth-not-before", 0, "how long after its issue an auth token becomes valid")
	f.DurationVar(&app.RefreshTTL, "refresh-ttl", 0, "lifetime of a refresh token; 0s is three times that of an auth token")
	f.DurationVar(&app.RefreshNotBefore, "refresh-not-before", 0, "how long after its issue a refresh token becomes valid")
	f.DurationVar(&app.SessionTTL, "session-ttl", 0, "how long after the login a session ends, however often it is renewed; 0s is never")
	f.IntVar(&app.MaxSessions, "max-sessions", 0, "live sessions of a subject; 0: no limit")
}

func createApp(f *flag.FlagSet) func(context.Context, *call) error {
	var app renew.App
	appFlags(f, &app)
	alg := f.String("alg", string(renew.ES256), "signature `algorithm` of the first signing key")
	file := f.String("app-key-file", "", fmt.Sprintf(secretFile, "app key to use, instead of a new one"))
	return func(ctx context.Context, c *call) error {
		app.ID = c.args[0]
		if app.Issuer == "" {
			app.Issuer = app.ID
		}
		if err := app.Validate(); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		key, err := renew.GenerateSigningKey(renew.Algorithm(*alg)) //nolint:contextcheck // it signs once, in memory
		if err != nil {
			return fmt.Errorf("%w: -alg: %w", errUsage, err)
		}
		appKey, hash, err := c.appKey(*file)
		if err != nil {
			return err
		}
		app.KeyHashes = []renew.AppKeyHash{hash}
		if err := c.keys.CreateApp(ctx, app); err != nil {
			return err
		}
		err = c.keys.RotateSigningKey(ctx, app.ID, key, c.now())
		if err != nil {
			err = fmt.Errorf("the app was created without a signing key; run renewctl signing-key rotate: %w", err)
		}
		c.printAppKey(app.ID, appKey, hash)
		return err
	}
}

func listApps(*flag.FlagSet) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		lister, ok := c.keys.(renew.AppLister)
		if !ok {
			return errors.New("this store does not list its apps")
		}
		ids, err := lister.AppIDs(ctx)
		if err != nil {
			return err
		}
		views, rows := []appView{}, [][]string{}
		for _, id := range ids {
			app, err := c.keys.App(ctx, id)
			if errors.Is(err, renew.ErrAppNotFound) {
				continue // deleted since
			}
			if err != nil {
				return err
			}
			views = append(views, viewApp(app))
			rows = append(rows, []string{app.ID, app.Issuer, fmt.Sprint(len(app.KeyHashes))})
		}
		c.table(views, []string{"APP", "ISSUER", "APP KEYS"}, rows)
		return nil
	}
}

func showApp(*flag.FlagSet) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		app, err := c.app(ctx, c.args[0])
		if err != nil {
			return err
		}
		v := viewApp(app)
		c.table(v, []string{"SETTING", "VALUE"}, [][]string{
			{"app", v.ID},
			{"issuer", v.Issuer},
			{"former issuers", strings.Join(v.FormerIssuers, ", ")},
			{"auth token", fmt.Sprintf("%v, valid after %v", time.Duration(v.AuthTTL)*time.Second, app.AuthNotBefore)},
			{"refresh token", fmt.Sprintf("%v, valid after %v", time.Duration(v.RefreshTTL)*time.Second, app.RefreshNotBefore)},
			{"session", orNone(app.SessionTTL, "no end")},
			{"sessions of a subject", orNone(app.MaxSessions, "no limit")},
			{"app keys", strings.Join(v.AppKeyHashes, "\n\t")},
		})
		return nil
	}
}

func orNone[T comparable](value T, none string) string {
	var zero T
	if value == zero {
		return none
	}
	return fmt.Sprint(value)
}

func updateApp(f *flag.FlagSet) func(context.Context, *call) error {
	var set renew.App
	appFlags(f, &set)
	return func(ctx context.Context, c *call) error {
		app, err := c.app(ctx, c.args[0])
		if err != nil {
			return err
		}
		former := app.Issuer
		given := 0
		f.Visit(func(flag *flag.Flag) {
			given++
			switch flag.Name {
			case "issuer":
				app.Issuer = set.Issuer
			case "auth-ttl":
				app.AuthTTL = set.AuthTTL
			case "auth-not-before":
				app.AuthNotBefore = set.AuthNotBefore
			case "refresh-ttl":
				app.RefreshTTL = set.RefreshTTL
			case "refresh-not-before":
				app.RefreshNotBefore = set.RefreshNotBefore
			case "session-ttl":
				app.SessionTTL = set.SessionTTL
			case "max-sessions":
				app.MaxSessions = set.MaxSessions
			default:
				given--
			}
		})
		if given == 0 {
			return usage("app update changes what its flags say, and none is given")
		}
		if app.Issuer != former && !slices.Contains(app.FormerIssuers, former) {
			app.FormerIssuers = append(app.FormerIssuers, former)
		}
		if err := app.Validate(); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		if err := c.keys.UpdateApp(ctx, app); err != nil {
			return err
		}
		c.print(viewApp(app), "app %s is updated", app.ID)
		return nil
	}
}

// app reads an app.
func (c *call) app(ctx context.Context, appID string) (renew.App, error) {
	app, err := c.keys.App(ctx, appID)
	if err != nil {
		return renew.App{}, fmt.Errorf("app %q: %w", appID, err)
	}
	return app, nil
}

// appView is an app as JSON has it. Times are seconds; those that are not set are
// the defaults.
type appView struct {
	ID               string   `json:"id"`
	Issuer           string   `json:"issuer"`
	FormerIssuers    []string `json:"former_issuers"`
	AuthTTL          int64    `json:"auth_ttl"`
	AuthNotBefore    int64    `json:"auth_not_before"`
	RefreshTTL       int64    `json:"refresh_ttl"`
	RefreshNotBefore int64    `json:"refresh_not_before"`
	SessionTTL       int64    `json:"session_ttl"`
	MaxSessions      int      `json:"max_sessions"`
	AppKeyHashes     []string `json:"app_key_hashes"`
}

func viewApp(app renew.App) appView {
	if app.AuthTTL == 0 {
		app.AuthTTL = renew.DefaultAuthTTL
	}
	if app.RefreshTTL == 0 {
		app.RefreshTTL = 3 * app.AuthTTL
	}
	seconds := func(d time.Duration) int64 { return int64(d / time.Second) }
	v := appView{
		ID: app.ID, Issuer: app.Issuer, FormerIssuers: append([]string{}, app.FormerIssuers...),
		AuthTTL: seconds(app.AuthTTL), AuthNotBefore: seconds(app.AuthNotBefore),
		RefreshTTL: seconds(app.RefreshTTL), RefreshNotBefore: seconds(app.RefreshNotBefore),
		SessionTTL: seconds(app.SessionTTL), MaxSessions: app.MaxSessions, AppKeyHashes: []string{},
	}
	for _, hash := range app.KeyHashes {
		v.AppKeyHashes = append(v.AppKeyHashes, hash.String())
	}
	return v
}
