package main

import (
	"context"
	"flag"
	"fmt"
)

var sessionCommands = []command{
	{
		name: "session list", arguments: []string{"APP", "SUBJECT"},
		summary: "list the live sessions of a subject, the newest first", flags: listSessions,
	},
	{name: "session revoke", arguments: []string{"APP", "SESSION"}, summary: "end one session", flags: revokeSession},
	{
		name: "session revoke-subject", arguments: []string{"APP", "SUBJECT"},
		summary: "end all sessions of a subject", flags: revokeSubject,
	},
}

var storeCommands = []command{
	{name: "purge", summary: "delete sessions and keys that have expired", flags: purge},
}

// sessionView is a session as JSON has it.
type sessionView struct {
	ID        string `json:"id"`
	IP        string `json:"ip"`
	UserAgent string `json:"user_agent"`
	Created   moment `json:"created"`
	Renewed   moment `json:"renewed"`
	Expires   moment `json:"expires"`
}

func listSessions(*flag.FlagSet) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		r, err := c.renewer()
		if err != nil {
			return err
		}
		sessions, err := r.Sessions(ctx, c.args[0], c.args[1])
		if err != nil {
			return err
		}
		views, rows := []sessionView{}, [][]string{}
		for _, s := range sessions {
			v := sessionView{s.ID, s.IP, s.UserAgent, moment(s.CreatedAt), moment(s.IssuedAt), moment(s.RefreshExpiresAt)}
			views = append(views, v)
			rows = append(rows, []string{v.ID, v.Created.String(), v.Renewed.String(), v.Expires.String(), v.IP, v.UserAgent})
		}
		c.table(views, []string{"SESSION", "CREATED", "RENEWED", "EXPIRES", "IP", "USER AGENT"}, rows)
		return nil
	}
}

// revokedView is what was revoked, as JSON has it.
type revokedView struct {
	Revoked int `json:"revoked"`
}

func revokeSession(*flag.FlagSet) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		r, err := c.renewer()
		if err != nil {
			return err
		}
		if err := r.RevokeSession(ctx, c.args[0], c.args[1]); err != nil {
			return err
		}
		c.print(revokedView{1}, "session %s of app %s is revoked", c.args[1], c.args[0])
		return nil
	}
}

func revokeSubject(*flag.FlagSet) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		r, err := c.renewer()
		if err != nil {
			return err
		}
		n, err := r.RevokeSubject(ctx, c.args[0], c.args[1])
		if err != nil {
			return err
		}
		c.print(revokedView{n}, "%d sessions are revoked", n)
		return nil
	}
}

// deletedView is what was deleted, as JSON has it.
type deletedView struct {
	Sessions int `json:"sessions"`
	Keys     int `json:"keys"`
}

func purge(*flag.FlagSet) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		r, err := c.renewer()
		if err != nil {
			return err
		}
		n, err := r.DeleteExpired(ctx)
		c.print(deletedView{n.Sessions, n.Keys}, "deleted: %d sessions, %d keys", n.Sessions, n.Keys)
		if err != nil {
			return fmt.Errorf("purge: %w", err)
		}
		return nil
	}
}
