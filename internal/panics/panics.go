// Package panics turns a panic of code that a store calls, such as a driver or a
// caller's Encrypter, into an error.
//
// Modules other than the root import it: a change must keep their last release
// compiling.
package panics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Err is the error of a call that panicked. What the call was to do may have happened.
var Err = errors.New("panicked")

// Catch is to be deferred. If there is a panic it logs it with its stack, at level error
// with [slog.Default], and sets err to an error that wraps [Err] and names who.
//
// A store needs it in each goroutine that it starts: there a panic would end the
// process, where in the goroutine of a request it ends the request.
func Catch(ctx context.Context, who string, err *error) {
	p := recover()
	if p == nil {
		return
	}
	slog.Default().ErrorContext(ctx, who+" panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	*err = fmt.Errorf("%s %w: %v", who, Err, p)
}
