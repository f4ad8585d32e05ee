package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/storeurl"
)

// errUsage means that the command line or the environment is wrong.
var errUsage = errors.New("bad usage")

func usage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUsage, fmt.Sprintf(format, args...))
}

// command is one that renewctl knows.
type command struct {
	name      string   // its words
	arguments []string // what must follow the flags, by name
	summary   string
	makes     bool // it may be the first one on an empty store
	// flags defines the command's flags, and returns what runs it once they are
	// parsed.
	flags func(f *flag.FlagSet) func(ctx context.Context, c *call) error
}

// call is a command that runs, on open stores.
type call struct {
	environment
	*output
	keys   storeurl.Keys
	tokens renew.TokenStore
	args   []string
}

// renewer returns a Renewer on the stores.
func (c *call) renewer() (*renew.Renewer, error) {
	return renew.New(c.keys, c.tokens, renew.WithClock(c.now))
}

// commands returns all commands, in the order of the help.
func commands() []command {
	return slices.Concat(appCommands, appKeyCommands, signingKeyCommands, sessionCommands, importCommands, storeCommands)
}

// run runs the command that args name.
func (e environment) run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usage("no command: see renewctl help")
	}
	if slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) {
		return e.help()
	}
	c, rest, err := find(args)
	if err != nil {
		return err
	}
	f := flag.NewFlagSet(c.name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	url := f.String("store", "", "`URL` of the store, if it has no password; otherwise put it into $"+storeVariable)
	asJSON := f.Bool("json", false, "print JSON, for scripts")
	execute := c.flags(f)
	positional, err := parse(f, rest)
	if errors.Is(err, flag.ErrHelp) {
		return e.helpOf(c, f)
	}
	if err != nil {
		return usage("%s: %v", c.name, err)
	}
	if len(positional) != len(c.arguments) {
		return usage("%s takes %s", c.name, c.takes())
	}
	stores, err := e.open(ctx, *url, c.makes)
	if err != nil {
		return err
	}
	out := &output{w: e.stdout, json: *asJSON}
	err = execute(ctx, &call{environment: e, output: out, keys: stores.Keys, tokens: stores.Tokens, args: positional})
	return errors.Join(err, out.err, stores.Close())
}

// find returns the command whose words args start with.
func find(args []string) (command, []string, error) {
	for _, c := range commands() {
		words := strings.Fields(c.name)
		if len(args) >= len(words) && slices.Equal(args[:len(words)], words) {
			return c, args[len(words):], nil
		}
	}
	return command{}, nil, usage("there is no such command: see renewctl help")
}

// parse takes flags before, between and after the arguments, up to "--".
func parse(f *flag.FlagSet, args []string) (positional []string, err error) {
	var verbatim []string
	if i := slices.Index(args, "--"); i >= 0 {
		args, verbatim = args[:i], args[i+1:]
	}
	for len(args) > 0 {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		args = f.Args()
		if len(args) > 0 {
			positional, args = append(positional, args[0]), args[1:]
		}
	}
	return append(positional, verbatim...), nil
}

func (c command) takes() string {
	if len(c.arguments) == 0 {
		return "flags alone: see renewctl " + c.name + " -h"
	}
	return strings.Join(c.arguments, " ") + ": see renewctl " + c.name + " -h"
}

func (e environment) help() error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "renewctl administers the stores of a service that uses renew.\n\nCommands:\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %s\t%s\n", strings.Join(append([]string{c.name}, c.arguments...), " "), c.summary)
	}
	fmt.Fprintf(w, `
"renewctl COMMAND -h" lists the flags of a command.

The store is named by $%s: %s.
$%s holds the key that encrypts private keys: 32 random bytes in base64, such
as those of: openssl rand -base64 32. An SQLite file may do without: its key is then
in a file beside it.
`, storeVariable, strings.TrimPrefix(storeurl.Usage, storeurl.Memory+", "), storeurl.EncryptionKeyVariable)
	return w.Flush()
}

func (e environment) helpOf(c command, f *flag.FlagSet) error {
	_, err := fmt.Fprintf(e.stdout, "renewctl %s\n\n%s\n\nFlags:\n\n", strings.Join(append([]string{c.name}, c.arguments...), " "), c.summary)
	f.SetOutput(e.stdout)
	f.PrintDefaults()
	return err
}
