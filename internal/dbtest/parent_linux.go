package dbtest

import "syscall"

// dieWithParent has the server end when the test does, however that ends.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
