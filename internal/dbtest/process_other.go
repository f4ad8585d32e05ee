//go:build !unix

package dbtest

import (
	"fmt"
	"os/exec"
)

// process does not exist here: servers are started on Unix only.
type process struct{}

var errNotUnix = fmt.Errorf("servers are started on Unix only: %w", errMissing)

func startProcess(*exec.Cmd, string) (*process, error) { return nil, errNotUnix }
func (*process) ended() bool                           { return true }
func (*process) kill()                                 {}
func runAs(*exec.Cmd, []string) error                  { return errNotUnix }
func runAsSelf(*exec.Cmd)                              {}
func giveAway(string, []string) error                  { return errNotUnix }
