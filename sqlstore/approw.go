package sqlstore

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
)

// appColumns are the columns of an app in the order of appRow's args and dest.
const appColumns = `issuer, key_hashes, auth_ttl, auth_not_before, refresh_ttl, refresh_not_before, session_ttl,
	max_sessions, former_issuers, signing_key_id, longest_ttl, signed_until, revision, id`

// appRow is an app as it is stored.
type appRow struct {
	id, issuer, keyHashes                                            string
	authTTL, authNotBefore, refreshTTL, refreshNotBefore, sessionTTL int64 // seconds
	maxSessions                                                      int64
	formerIssuers, signingKeyID                                      sql.NullString
	longestTTL                                                       int64 // seconds; with signedUntil a renew.SigningPeriod
	signedUntil                                                      int64 // milliseconds; 0: no key signed before the active one

	// revision grows with every change of the app or its keys. A change is
	// conditional on the revision that it was made from.
	revision int64
}

func (r *appRow) args() []any {
	return []any{
		r.issuer, r.keyHashes, r.authTTL, r.authNotBefore, r.refreshTTL, r.refreshNotBefore, r.sessionTTL,
		r.maxSessions, r.formerIssuers, r.signingKeyID, r.longestTTL, r.signedUntil, r.revision, r.id,
	}
}

func (r *appRow) dest() []any {
	return []any{
		&r.issuer, &r.keyHashes, &r.authTTL, &r.authNotBefore, &r.refreshTTL, &r.refreshNotBefore, &r.sessionTTL,
		&r.maxSessions, &r.formerIssuers, &r.signingKeyID, &r.longestTTL, &r.signedUntil, &r.revision, &r.id,
	}
}

// set takes everything except the app keys.
func (r *appRow) set(app renew.App) error {
	r.id, r.issuer = app.ID, app.Issuer
	r.authTTL, r.authNotBefore = seconds(app.AuthTTL), seconds(app.AuthNotBefore)
	r.refreshTTL, r.refreshNotBefore = seconds(app.RefreshTTL), seconds(app.RefreshNotBefore)
	r.sessionTTL, r.maxSessions = seconds(app.SessionTTL), int64(app.MaxSessions)
	r.formerIssuers = sql.NullString{}
	if len(app.FormerIssuers) == 0 {
		return nil
	}
	encoded, err := json.Marshal(app.FormerIssuers)
	r.formerIssuers = sql.NullString{String: string(encoded), Valid: true}
	return err
}

func (r *appRow) app() (renew.App, error) {
	hashes, err := r.hashes()
	if err != nil {
		return renew.App{}, err
	}
	var formerIssuers []string
	if r.formerIssuers.Valid {
		if err := json.Unmarshal([]byte(r.formerIssuers.String), &formerIssuers); err != nil {
			return renew.App{}, fmt.Errorf("sqlstore: app %q: the stored former issuers are not a JSON array of strings", r.id)
		}
	}
	return renew.App{
		ID:               r.id,
		Issuer:           r.issuer,
		KeyHashes:        hashes,
		AuthTTL:          duration(r.authTTL),
		AuthNotBefore:    duration(r.authNotBefore),
		RefreshTTL:       duration(r.refreshTTL),
		RefreshNotBefore: duration(r.refreshNotBefore),
		SessionTTL:       duration(r.sessionTTL),
		MaxSessions:      int(r.maxSessions),
		FormerIssuers:    formerIssuers,
	}, nil
}

// storedScheme is the hash of which the stored text has no name: all were SHA-256
// once.
const storedScheme = "sha256:"

func (r *appRow) hashes() ([]renew.AppKeyHash, error) {
	var texts []string
	if err := json.Unmarshal([]byte(r.keyHashes), &texts); err != nil {
		return nil, fmt.Errorf("sqlstore: app %q: the stored app keys are not a JSON array of strings", r.id)
	}
	var hashes []renew.AppKeyHash
	for _, text := range texts {
		if !strings.Contains(text, ":") {
			text = storedScheme + text
		}
		hash, err := renew.ParseAppKeyHash(text)
		if err != nil {
			return nil, fmt.Errorf("sqlstore: app %q: a stored app key: %w", r.id, err)
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}

func (r *appRow) setHashes(hashes []renew.AppKeyHash) error {
	texts := make([]string, len(hashes))
	for i, hash := range hashes {
		texts[i] = strings.TrimPrefix(hash.String(), storedScheme)
	}
	encoded, err := json.Marshal(texts)
	r.keyHashes = string(encoded)
	return err
}

// period is what the row says of the time in which the active key signs.
func (r *appRow) period() renew.SigningPeriod {
	p := renew.SigningPeriod{LongestTTL: duration(r.longestTTL)}
	if r.signedUntil != 0 {
		p.SignedUntil = fromMillis(r.signedUntil)
	}
	return p
}

func (r *appRow) setPeriod(p renew.SigningPeriod) {
	r.longestTTL, r.signedUntil = seconds(p.LongestTTL), 0
	if !p.SignedUntil.IsZero() {
		r.signedUntil = ceilMillis(p.SignedUntil)
	}
}

// count counts in the lifetimes of the app as the row has them.
func (r *appRow) count() error {
	app, err := r.app()
	p := r.period()
	p.Count(app)
	r.setPeriod(p)
	return err
}

func seconds(d time.Duration) int64  { return int64(d / time.Second) }
func duration(s int64) time.Duration { return time.Duration(s) * time.Second }
