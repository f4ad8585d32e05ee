package renew

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// DeletedCounts is how many sessions and keys were deleted.
type DeletedCounts struct {
	Sessions int
	Keys     int
}

// deleteBatch is how many sessions one call of a store deletes.
const deleteBatch = 1000

// DeleteExpired deletes the sessions and signing keys that have expired: sessions
// in batches, if the TokenStore implements [Purger], and keys, if the KeyStore
// implements [KeyAdmin]. It leaves alone what a server whose clock is behind can
// still take for valid: what expired less than [WithLeeway] and a minute ago.
//
// Errors: [errors.ErrUnsupported], if the stores implement neither; any other is
// an internal error. The counts are then those of what was deleted before it.
func (r *Renewer) DeleteExpired(ctx context.Context) (DeletedCounts, error) {
	var deleted DeletedCounts
	purger, purges := r.tokens.(Purger)
	admin, administers := r.keys.(KeyAdmin)
	if !purges && !administers {
		return deleted, fmt.Errorf("delete expired: the stores implement neither Purger nor KeyAdmin: %w", errors.ErrUnsupported)
	}
	before := r.time().Add(-r.clockTolerance())
	for n := deleteBatch; purges && n >= deleteBatch; {
		var err error
		n, err = purger.DeleteExpired(ctx, before, deleteBatch)
		deleted.Sessions += n
		if err != nil {
			return deleted, fmt.Errorf("delete expired sessions: %w", err)
		}
	}
	if administers {
		n, err := admin.DeleteExpiredKeys(ctx, before)
		deleted.Keys = n
		if err != nil {
			return deleted, fmt.Errorf("delete expired keys: %w", err)
		}
	}
	return deleted, nil
}

// Run calls [Renewer.DeleteExpired] immediately and then at the interval given, until
// ctx is done; it returns the context's error. Several servers may run it on one store.
//
// A minute is a good interval for a store that finds expired sessions by an index, as
// memstore, sqlstore and redisstore do. One that reads every session for it, as
// dynamostore does, needs hours: see the documentation of its DeleteExpired.
//
// An error of DeleteExpired is logged with [slog.Default] at level error, and the
// next call is made as planned. If the stores implement nothing to delete with,
// Run returns an error that wraps [errors.ErrUnsupported]; an interval that is not
// positive is an error, too.
func (r *Renewer) Run(ctx context.Context, every time.Duration) error {
	if every <= 0 {
		return fmt.Errorf("renew.Run: the interval %v is not positive", every)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		_, err := r.DeleteExpired(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errors.ErrUnsupported):
			return err
		case err != nil:
			slog.Default().ErrorContext(ctx, "renew: deleting expired sessions and keys failed", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
