// Package browsertest holds tests only: the example and the client of package js,
// in real headless Chromium.
package browsertest
