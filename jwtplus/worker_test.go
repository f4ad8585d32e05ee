package jwtplus_test

// workerVariable names the environment variable that makes the test binary a
// worker: a process that a test may kill.
const workerVariable = "RENEW_JWTPLUS_WORKER"

var workers = map[string]func() int{}
