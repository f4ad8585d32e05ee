//go:build unix

package dbtest

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// process is a server's first process.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// startProcess starts the command and keeps the thread that started it for as
// long as it runs: Linux ends the process when that thread ends.
func startProcess(cmd *exec.Cmd, logFile string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // in our own folder
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the process has its own
	cmd.Stdout, cmd.Stderr = log, log
	dieWithParent(cmd.SysProcAttr)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // a killed process is what this is for
		close(p.done)
	}()
	return p, <-started
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process, then those that it has started, which PostgreSQL has one
// of for each connection.
func (p *process) kill() {
	children := childrenOf(p.cmd.Process.Pid)
	_ = p.cmd.Process.Kill() // an error: it has ended already, and so below
	for _, child := range children {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	<-p.done
}

func childrenOf(pid int) []int {
	// Where there is no /proc the children end by themselves, a little later.
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return nil
	}
	var children []int
	for _, field := range strings.Fields(string(text)) {
		if child, err := strconv.Atoi(field); err == nil {
			children = append(children, child)
		}
	}
	return children
}

// runAs has the command run as the first of the users that there is, where this
// process is root: PostgreSQL refuses to be.
func runAs(cmd *exec.Cmd, users []string) error {
	runAsSelf(cmd)
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := lookup(users)
	if err != nil {
		return err
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	return nil
}

// runAsSelf has the command run as the user of this process.
func runAsSelf(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	cmd.Dir = "/"
}

// giveAway gives a folder to whom runAs runs as.
func giveAway(dir string, users []string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := lookup(users)
	if err != nil {
		return err
	}
	return os.Chown(dir, int(uid), int(gid))
}

func lookup(users []string) (uid, gid uint32, err error) {
	for _, name := range users {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		wideUID, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return 0, 0, err
		}
		wideGID, err := strconv.ParseUint(u.Gid, 10, 32)
		return uint32(wideUID), uint32(wideGID), err
	}
	return 0, 0, fmt.Errorf("this process is root, and there is no user %s to run the server as", strings.Join(users, " or "))
}
