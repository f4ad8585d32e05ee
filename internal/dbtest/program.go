package dbtest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Program is a server program that this package has no kind for, such as
// redis-server. A test starts it, may kill it and start it again. It never outlives
// the process that started it.
type Program struct {
	name    string
	path    string
	args    []string
	log     string
	asSelf  bool     // it runs as the user of this process
	process *process // nil: not started
}

// NewProgram looks for the program, which it does not start. Where it is missing it
// skips the test, or fails it: see [RequireVariable]. install says how to install it.
// The output goes to the file log.
func NewProgram(tb testing.TB, name, install, log string, args ...string) *Program {
	tb.Helper()
	notShort(tb)
	path, err := findBinary(name, "/usr/bin", "/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin")
	if err != nil {
		give(tb, fmt.Errorf("%s is %w: %s", name, errMissing, install))
	}
	p := &Program{name: name, path: path, args: args, log: log}
	tb.Cleanup(p.Kill)
	return p
}

// AsSelf has the program run as the user of this process, even if that is root: for one
// that reads files of this repository, which others may not be allowed to.
func (p *Program) AsSelf() { p.asSelf = true }

// Start starts the program, unless it runs. It does not wait until the program is
// ready.
func (p *Program) Start() error {
	if p.Running() {
		return nil
	}
	cmd := command(p.path, p.args...)
	cmd.Args[0] = p.name // the path may be where a link leads, and a program may go by its name
	if p.asSelf {
		runAsSelf(cmd)
	} else if err := runAs(cmd, []string{"nobody"}); err != nil {
		return err
	}
	started, err := startProcess(cmd, p.log)
	if err != nil {
		return err
	}
	p.process = started
	return nil
}

// Running reports whether the program was started and has not ended.
func (p *Program) Running() bool { return p.process != nil && !p.process.ended() }

// Kill ends the program with SIGKILL, if it runs, and returns when it is gone.
func (p *Program) Kill() {
	if p.Running() {
		p.process.kill()
	}
	p.process = nil
}

// LogTail returns the end of what the program has printed.
func (p *Program) LogTail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// ProgramDir makes a temporary folder that a [Program] can write to. It is deleted
// when the test has ended.
func ProgramDir(tb testing.TB) string {
	tb.Helper()
	notShort(tb)
	dir, err := os.MkdirTemp("", "renew-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) }) // of what stays, the system clears its temporary files
	if err := giveAway(dir, []string{"nobody"}); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// takenPorts are those that FreePort has returned.
var takenPorts sync.Map

// FreePort returns a port of the loopback interface that was free a moment ago, another
// one each time. It is below those that a system chooses for connections: otherwise one
// of them could have it before the server listens, or while it is restarted.
func FreePort(tb testing.TB) int {
	tb.Helper()
	const first, last, tries = 10_000, 32_767, 1000
	var err error
	for range tries {
		port := first + rand.IntN(last-first+1) //nolint:gosec // any port
		if _, taken := takenPorts.LoadOrStore(port, true); taken {
			continue
		}
		var listener net.Listener
		listener, err = new(net.ListenConfig).Listen(tb.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = listener.Close()
			return port
		}
	}
	tb.Fatalf("no port is free: %v", err)
	return 0
}
