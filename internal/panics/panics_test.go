package panics_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/jwtrenew/renew/internal/panics"
)

// A panic is an error and stands in the log with its stack; without one nothing
// changes.
func TestCatch(t *testing.T) {
	var log bytes.Buffer
	previous := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(previous)

	failed := errors.New("failed")
	if err := call(t.Context(), func() error { return failed }); !errors.Is(err, failed) || log.Len() > 0 {
		t.Fatalf("without a panic: %v; log: %s", err, &log)
	}
	err := call(t.Context(), buggyDriver)
	if !errors.Is(err, panics.Err) || err.Error() != "the driver panicked: no rows" {
		t.Fatalf("after a panic: %v", err)
	}
	for _, want := range []string{"the driver panicked", "no rows", "buggyDriver"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q: %s", want, &log)
		}
	}
}

func call(ctx context.Context, f func() error) (err error) {
	defer panics.Catch(ctx, "the driver", &err)
	return f()
}

func buggyDriver() error { panic("no rows") }
