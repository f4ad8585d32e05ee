package fleettest

import (
	"context"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// SessionsVariable names the environment variable that sets how many sessions of one
// subject TestLargeSubject makes.
const SessionsVariable = "RENEW_TEST_SUBJECT_SESSIONS"

// CreateMany stores sessions of one subject, numbered from 0 and a millisecond apart, as
// many as [SessionsVariable] says, or as given, and returns how many.
func CreateMany(t *testing.T, store TokenStore, sessions, workers int) int {
	t.Helper()
	if text := os.Getenv(SessionsVariable); text != "" {
		var err error
		sessions, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	var all sync.WaitGroup
	for first := range workers {
		all.Go(func() {
			for i := first; i < sessions; i += workers {
				s := NewSession(strconv.Itoa(i))
				s.CreatedAt = Base.Add(time.Duration(i) * time.Millisecond)
				if err := store.CreateSession(context.Background(), s); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return sessions
}
