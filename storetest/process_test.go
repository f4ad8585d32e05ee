package storetest

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
)

func TestMain(m *testing.M) {
	ServeProcess(func(name string) (any, error) {
		if file, ok := strings.CutPrefix(name, "keys in "); ok {
			return openFileKeys(file, true)
		}
		if file, ok := strings.CutPrefix(name, "keys some time in "); ok {
			return openFileKeys(file, false)
		}
		switch name {
		case "sound":
			return sound{newBacking()}, nil
		case "tokens only":
			return struct{ renew.TokenStore }{sound{newBacking()}}, nil
		case "slow":
			return slow{sound{newBacking()}}, nil
		case "keys":
			return newSoundKeys(), nil
		case "keys only":
			return struct{ renew.KeyStore }{newSoundKeys()}, nil
		case "both":
			return struct {
				sound
				soundKeys
			}{sound{newBacking()}, newSoundKeys()}, nil
		case "neither":
			return "a text", nil
		}
		return nil, errors.New("no store of this name")
	})
	os.Exit(m.Run())
}

// slow returns when the context is done.
type slow struct{ sound }

func (s slow) Session(ctx context.Context, _, _ string) (renew.Session, error) {
	<-ctx.Done()
	return renew.Session{}, ctx.Err()
}

// TestProcess shows that a store is the same through the pipes of a process:
// nothing is lost of what it is given, returns and rejects. It is in memory, so
// that it is not asked to survive a crash.
func TestProcess(t *testing.T) {
	rounds.Long(t)
	t.Parallel()
	p := StartProcess(t, "sound")
	TestTokenStore(t, p.Open, withFewerRounds(t))
}

func TestProcessHasTheInterfacesOfItsStore(t *testing.T) {
	h := StartProcess(t, "tokens only").Open(t)
	if _, ok := h.(renew.SubjectStore); ok {
		t.Error("a handle on a store that does not implement SubjectStore does")
	}
	if _, ok := h.(renew.Purger); ok {
		t.Error("a handle on a store that does not implement Purger does")
	}
}

func TestProcessPassesOnTheEndOfAContext(t *testing.T) {
	h := StartProcess(t, "slow").Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := h.Session(ctx, "app", "session"); !errors.Is(err, context.Canceled) {
		t.Errorf("a call whose context is cancelled returned %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := h.Session(ctx, "app", "session"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call whose deadline passes returned %v", err)
	}
}

// TestProcessCrash shows that a crash kills: what was in memory is gone, calls
// under way and old handles fail, new ones work.
func TestProcessCrash(t *testing.T) {
	p := StartProcess(t, "slow")
	old := p.Open(t)
	if err := old.CreateSession(t.Context(), renew.Session{AppID: "app", ID: "session"}); err != nil {
		t.Fatal(err)
	}
	underWay := make(chan error)
	go func() {
		_, err := old.Session(t.Context(), "app", "session")
		underWay <- err
	}()
	p.Crash(t)
	if err := <-underWay; err == nil || errors.Is(err, renew.ErrSessionNotFound) {
		t.Errorf("a call that was under way returned %v", err)
	}
	if err := old.RevokeSession(t.Context(), "app", "session", base); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("an old handle returned %v", err)
	}
	err := p.Open(t).RevokeSession(t.Context(), "app", "session", base)
	if !errors.Is(err, renew.ErrSessionNotFound) {
		t.Errorf("a new process that holds nothing returned %v", err)
	}
}

func TestProcessWhoseStoreDoesNotOpen(t *testing.T) {
	if _, err := startProcess("unknown"); err == nil || !strings.Contains(err.Error(), "no store of this name") {
		t.Errorf("a process whose store cannot be opened returned %v", err)
	}
}
