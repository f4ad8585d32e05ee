package storetest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
)

// fileKeys is a key store in a file: a list of the calls that have changed it.
type fileKeys struct {
	soundKeys
	durable bool // a call is in the file when it returns

	mu   sync.Mutex
	file *os.File
	late []request // that are not in the file yet
}

func openFileKeys(name string, durable bool) (*fileKeys, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	f := &fileKeys{soundKeys: newSoundKeys(), durable: durable, file: file}
	for in := bufio.NewReader(file); ; {
		var r request
		if err := gob.NewDecoder(in).Decode(&r); errors.Is(err, io.EOF) {
			return f, nil
		} else if err != nil {
			return nil, err
		}
		if _, err := (&server{store: f.soundKeys}).call(context.Background(), r); err != nil {
			return nil, err
		}
	}
}

// change makes a call and writes it down.
func (f *fileKeys) change(call func() error, method string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := call(); err != nil {
		return err
	}
	args, err := each(args, toWire)
	if err != nil {
		return err
	}
	r := request{Method: method, Args: args}
	const batch = 7
	if f.late = append(f.late, r); !f.durable && len(f.late) < batch {
		return nil
	}
	for _, r := range f.late {
		var b bytes.Buffer
		if err := gob.NewEncoder(&b).Encode(r); err != nil {
			return err
		}
		if _, err := f.file.Write(b.Bytes()); err != nil {
			return err
		}
	}
	f.late = nil
	return nil
}

func (f *fileKeys) CreateApp(ctx context.Context, app renew.App) error {
	return f.change(func() error { return f.soundKeys.CreateApp(ctx, app) }, "CreateApp", app)
}

func (f *fileKeys) UpdateApp(ctx context.Context, app renew.App) error {
	return f.change(func() error { return f.soundKeys.UpdateApp(ctx, app) }, "UpdateApp", app)
}

func (f *fileKeys) AddAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return f.change(func() error { return f.soundKeys.AddAppKey(ctx, appID, hash) }, "AddAppKey", appID, hash)
}

func (f *fileKeys) RemoveAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return f.change(func() error { return f.soundKeys.RemoveAppKey(ctx, appID, hash) }, "RemoveAppKey", appID, hash)
}

func (f *fileKeys) PublishSigningKey(ctx context.Context, appID string, key *renew.SigningKey) error {
	return f.change(func() error { return f.soundKeys.PublishSigningKey(ctx, appID, key) }, "PublishSigningKey", appID, key)
}

func (f *fileKeys) RotateSigningKey(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
	return f.change(func() error { return f.soundKeys.RotateSigningKey(ctx, appID, key, now) }, "RotateSigningKey", appID, key, now)
}

func (f *fileKeys) RevokeKey(ctx context.Context, appID, keyID string, at time.Time) error {
	return f.change(func() error { return f.soundKeys.RevokeKey(ctx, appID, keyID, at) }, "RevokeKey", appID, keyID, at)
}

func (f *fileKeys) DeleteExpiredKeys(ctx context.Context, before time.Time) (n int, err error) {
	err = f.change(func() error {
		n, err = f.soundKeys.DeleteExpiredKeys(ctx, before)
		return err
	}, "DeleteExpiredKeys", before)
	return n, err
}

// TestKeyProcess shows that a key store in a file passes in another process. It is not
// killed here: a new process makes the thousands of calls again that all cases have made.
func TestKeyProcess(t *testing.T) {
	rounds.Long(t)
	t.Parallel()
	p := StartProcess(t, "keys in "+filepath.Join(t.TempDir(), "keys"))
	TestKeyStore(t, p.OpenKeys, withFewerRounds(t))
}

// TestKeyProcessThatForgets shows that a key store which acknowledges before it writes
// is caught when its process is killed, and that a durable one passes.
func TestKeyProcessThatForgets(t *testing.T) {
	p := StartProcess(t, "keys some time in "+filepath.Join(t.TempDir(), "keys"))
	s := newKeySuite(p.OpenKeys, newConfig([]Option{WithCrash(p.Crash)}))
	r := runCase(t, s, "K13", "every-method")
	if len(r.failures) == 0 || r.failures[0].law != "K13" {
		t.Errorf("failures: %v, skipped for %q", r.failures, r.skipped)
	}
	kept := StartProcess(t, "keys in "+filepath.Join(t.TempDir(), "keys"))
	s = newKeySuite(kept.OpenKeys, newConfig([]Option{WithCrash(kept.Crash)}))
	if r := runCase(t, s, "K13", "every-method"); len(r.failures) > 0 || r.skipped != "" {
		t.Errorf("a store that keeps all: failures %v, skipped for %q", r.failures, r.skipped)
	}
}

// TestProcessKinds shows that a process serves both kinds of stores, with the
// interfaces that they have and no others.
func TestProcessKinds(t *testing.T) {
	keys := StartProcess(t, "keys").OpenKeys(t)
	if _, ok := keys.(allKeys); !ok {
		t.Error("a handle on a key store does not have all interfaces that the store has")
	}
	only := StartProcess(t, "keys only").OpenKeys(t)
	if _, ok := only.(renew.KeyLister); ok {
		t.Error("a handle on a store that does not implement KeyLister does")
	}
	if _, ok := only.(renew.KeyAdmin); ok {
		t.Error("a handle on a store that does not implement KeyAdmin does")
	}
	for lists, admin := range map[bool]bool{true: true, false: false} {
		for _, is := range []hello{
			{ListsKeys: lists, Administers: admin},
			{ListsKeys: lists, Administers: admin, ListsApps: true},
			{ListsKeys: lists, Administers: admin, ReturnsPublished: true},
		} {
			h := remoteKeys{}.as(is)
			_, isLister := h.(renew.KeyLister)
			_, isAdmin := h.(renew.KeyAdmin)
			_, isAppLister := h.(renew.AppLister)
			_, isPublished := h.(renew.PublishedKeyStore)
			if isLister != lists || isAdmin != admin || isAppLister != (is.ListsApps && lists) || isPublished != (is.ReturnsPublished && lists) {
				t.Errorf("a handle on a store that is %+v implements KeyLister: %t, KeyAdmin: %t, AppLister: %t, PublishedKeyStore: %t", is, isLister, isAdmin, isAppLister, isPublished)
			}
		}
	}
	both := StartProcess(t, "both")
	if _, err := both.Open(t).Session(t.Context(), "app", "session"); !errors.Is(err, renew.ErrSessionNotFound) {
		t.Errorf("a store of both kinds returned %v for an unknown session", err)
	}
	if _, err := both.OpenKeys(t).App(t.Context(), "app"); !errors.Is(err, renew.ErrAppNotFound) {
		t.Errorf("a store of both kinds returned %v for an unknown app", err)
	}
	if _, err := startProcess("neither"); err == nil || !strings.Contains(err.Error(), "a string implements neither renew.TokenStore nor renew.KeyStore") {
		t.Errorf("a process with a text for a store returned %v", err)
	}
}
