// Command renewctl administers the stores of a service that uses renew: apps, app
// keys, signing keys, sessions.
//
// Get it as a tool of your module, or build it in a clone of the repository ("go
// install" with a version does not work for a module with replace lines):
//
//	go get -tool github.com/jwtrenew/renew/cmd/renewctl
//	go tool renewctl help
//
// It is called renewctl here:
//
//	export RENEW_STORE=postgres://renew@db.example/renew
//	export RENEW_ENCRYPTION_KEY=…
//	renewctl app create shop -issuer https://shop.example
//	renewctl app list -json
//
// "renewctl help" lists the commands, and "renewctl app create -h" the flags of one.
//
// Secrets are never flags, which every user of the machine can read and which the
// shell keeps: the URL of the store with its password comes from $RENEW_STORE, the
// encryption key from $RENEW_ENCRYPTION_KEY, an app key or a private key from a file
// or from standard input. A secret that renewctl makes is printed once.
//
// The exit status is 0 if the command did what it says, 2 if the command line or the
// environment is wrong, and otherwise 1.
package main
