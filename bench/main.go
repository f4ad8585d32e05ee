//go:build unix

// Command bench measures what a renewal costs, and prints it beside the limit
// that the cryptography sets, a renewal written by hand, and other libraries.
//
//	go run ./bench            # everything; a quarter of an hour
//	go run ./bench -quick     # everything in little; two minutes on two cores
//	go run ./bench -only http # one section
//
// What is compared takes turns in short blocks, and ratios are taken block by
// block, so that a busy machine hits all alike. CPU is what the process used in
// user and system mode, all threads and the garbage collector's included
// (getrusage). PostgreSQL, MariaDB and Redis are started from the binaries
// that are installed, in separate directories, and stopped at the end.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is one run.
type bench struct {
	out       io.Writer
	block     time.Duration // how long a contender runs before it is the next one's turn
	rounds    int
	pairs     int           // limits and renewals, one by one
	load      time.Duration // how long clients load a server in one round
	live      []int         // live sessions, for growth
	growth    int           // renewals of each size of store in a round
	renewals  int           // of one session, for age
	databases *databases
}

// sections are what is measured, in the order of the report.
var sections = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"limit", (*bench).limit},
	{"systems", (*bench).systems},
	{"algorithms", (*bench).algorithms},
	{"renewers", (*bench).renewers},
	{"claims", (*bench).claims},
	{"signing", (*bench).signing},
	{"http", (*bench).http},
	{"databases", (*bench).databasesAtLoad},
	{"fleet", (*bench).fleet},
	{"growth", (*bench).growthOfStores},
	{"age", (*bench).age},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if config, isChild := os.LookupEnv(childVariable); isChild {
		err = runChild(ctx, config)
	} else {
		err = run(ctx, os.Stdout, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "less of everything: two minutes on two cores")
	only := flags.String("only", "", "sections to run, separated by commas: "+strings.Join(sectionNames(), ", ")+"; all if empty")
	if err := flags.Parse(args); err != nil {
		return err
	}
	chosen := sectionNames()
	if *only != "" {
		chosen = strings.Split(*only, ",")
	}
	for _, name := range chosen {
		if !slices.Contains(sectionNames(), name) {
			return fmt.Errorf("there is no section %q", name)
		}
	}
	b := &bench{
		out: out, block: 100 * time.Millisecond, rounds: 40, pairs: 20_000, load: time.Second,
		live: []int{1_000, 100_000, 1_000_000}, growth: 200, renewals: 10_000,
	}
	if *quick {
		b.block, b.rounds, b.pairs, b.load = 50*time.Millisecond, 10, 3000, 300*time.Millisecond
		b.live, b.growth, b.renewals = []int{1_000, 100_000}, 50, 1_000
	}
	if b.databases, err = startDatabases(ctx); err != nil {
		return err
	}
	defer b.databases.stop()
	return b.report(ctx, *quick, chosen)
}

func sectionNames() []string {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	return names
}

func (b *bench) report(ctx context.Context, quick bool, chosen []string) error {
	command := "go run ./bench"
	if quick {
		command += " -quick"
	}
	if len(chosen) < len(sections) {
		command += " -only " + strings.Join(chosen, ",")
	}
	fmt.Fprintf(b.out, "`%s`, %s, %s/%s, %d cores, %s\n", command, runtime.Version(), runtime.GOOS, runtime.GOARCH,
		runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	for _, why := range b.databases.missing {
		fmt.Fprintf(b.out, "\nNot measured: %s\n", why)
	}
	busyBefore := busy()
	for _, s := range sections {
		if !slices.Contains(chosen, s.name) {
			continue
		}
		if err := s.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	fmt.Fprintf(b.out, "\nProcesses that wanted a core, in the minute before: %s at the start, %s at the end.\n", busyBefore, busy())
	return nil
}

// busy is the system's load average, where it tells: how many processes want a
// core. With more of them than cores, only ratios mean something.
func busy() string {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	average, _, _ := strings.Cut(string(content), " ")
	return average
}
