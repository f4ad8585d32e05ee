package sqlstore_test

// workerVariable names the environment variable that makes the test binary a
// worker: a process of its own that a test may kill.
const workerVariable = "RENEW_SQLSTORE_WORKER"

// workers are what such a process can do; each returns its exit code.
var workers = map[string]func() int{}
