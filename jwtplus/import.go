package jwtplus

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/strictjson"
	"github.com/jwtrenew/renew/memstore"
)

// Defaults of the [Options].
const (
	DefaultBatchSize = 500
	DefaultWorkers   = 8
)

// Options are those of [Import]. The zero value is what is usual.
type Options struct {
	// DryRun writes nothing and says what would happen. What the stores have
	// already is counted as such; an app that they have is treated as one with all
	// keys of the source.
	DryRun bool

	// Now is the clock that tells which tokens have expired. Default: time.Now.
	Now func() time.Time

	// BatchSize is how many rows are read at a time. Default: [DefaultBatchSize].
	BatchSize int

	// Workers is how many sessions are created at the same time. Default:
	// [DefaultWorkers].
	Workers int

	// Line is called for each row that is not taken over, or not as it was.
	// Progress is called after each batch. Both are called one at a time, by the
	// goroutine that has called Import. Nil: not at all.
	Line     func(Line)
	Progress func(Progress)
}

// Progress is how far an import is.
type Progress struct {
	Stage  Stage
	Done   int // rows of this stage that were read
	Total  int // rows of this stage
	Report Report
}

// Stage is a part of an import.
type Stage string

// The stages, in their order.
const (
	StageIssuers  Stage = "issuers"  // reading the issuers of the tokens, unless all apps are there
	StageSessions Stage = "sessions" // taking over sessions; apps and keys are there by then
)

// Report counts what an import has done, or, after a dry run, would do.
type Report struct {
	DryRun   bool           `json:"dry_run"`
	Apps     Counts         `json:"apps"`
	Keys     Counts         `json:"keys"`
	Sessions Counts         `json:"sessions"`
	Rejected map[Reason]int `json:"rejected"` // rows that were not taken over, by reason
	Changed  map[Reason]int `json:"changed"`  // lines about rows that were taken over, by reason
}

// Counts are of the rows of one table. Read is the sum of the others.
type Counts struct {
	Read     int `json:"read"`
	Taken    int `json:"taken"`    // created by this import
	Existing int `json:"existing"` // there before, or created concurrently, and left as they were
	Rejected int `json:"rejected"`
}

// Import takes over the apps, keys and sessions of a JWTPlus database, all from one
// consistent snapshot of it.
//
// It may be called again at any time, after an error or a kill in particular: what is
// there stays as it is, whatever has happened to it since, and what is new is taken
// over. So an app that exists keeps its settings, its app keys and its issuers, and a
// session that was renewed or revoked is not touched. Only a key that JWTPlus has
// revoked since is revoked.
//
// keys must be a [renew.KeyStore] too, as the stores of this module are; otherwise
// the error wraps [errors.ErrUnsupported]. A row that cannot be taken over is
// reported and counted, and is not an error. Any error is that of a database or a
// store; the report is then of what was done before it.
//
// The import is done in memory that does not grow with the number of sessions. Read
// the package comment for what must be so before and after.
func Import(ctx context.Context, source *Source, keys renew.KeyAdmin, tokens renew.TokenStore, opts Options) (*Report, error) {
	im := &importer{
		source: source, admin: keys, tokens: tokens, opts: opts,
		report: &Report{DryRun: opts.DryRun, Rejected: map[Reason]int{}, Changed: map[Reason]int{}},
		apps:   map[string]*importedApp{}, keys: map[string]*signingKey{},
	}
	if err := im.run(ctx); err != nil {
		return im.report, fmt.Errorf("jwtplus: import: %w", err)
	}
	return im.report, nil
}

type importer struct {
	source *Source
	admin  renew.KeyAdmin
	tokens renew.TokenStore
	opts   Options
	report *Report

	target  renew.KeyStore // what is there: admin
	planned keyTarget      // what is there afterwards: admin too, or, in a dry run, a stand-in
	tx      *sql.Tx
	now     time.Time
	judge   *judge

	apps map[string]*importedApp
	keys map[string]*signingKey // all that can be read, revoked ones too
}

// keyTarget is what keys are written to and read from.
type keyTarget interface {
	renew.KeyAdmin
	renew.KeyStore
}

// importedApp is an app that is taken over or exists.
type importedApp struct {
	app     renew.App // as the source has it
	exists  bool
	ttl     time.Duration // of its refresh tokens, as the store has it or will have it
	keys    []*signingKey
	issuers map[string]int // of its tokens: how many have it
	lastExp int64          // when the last of its tokens expires
}

func (im *importer) run(ctx context.Context) error {
	if err := im.prepare(); err != nil {
		return err
	}
	var err error
	if im.tx, err = im.source.snapshot(ctx); err != nil {
		return err
	}
	defer func() { _ = im.tx.Rollback() }() // nothing was written
	for _, step := range []func(context.Context) error{
		im.readApps, im.readKeys, im.readIssuers, im.putApps, im.putKeys, im.putSessions,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (im *importer) prepare() error {
	if im.opts.BatchSize < 0 || im.opts.Workers < 0 {
		return errors.New("BatchSize and Workers must not be negative")
	}
	if im.opts.BatchSize == 0 {
		im.opts.BatchSize = DefaultBatchSize
	}
	if im.opts.Workers == 0 {
		im.opts.Workers = DefaultWorkers
	}
	if im.opts.Now == nil {
		im.opts.Now = time.Now
	}
	im.now = im.opts.Now()
	if im.tokens == nil {
		return errors.New("the TokenStore is nil")
	}
	target, ok := im.admin.(keyTarget)
	if !ok {
		return fmt.Errorf("%w: %w", errNoKeyStore, errors.ErrUnsupported)
	}
	im.target, im.planned = target, target
	if im.opts.DryRun {
		im.planned = memstore.New()
	}
	var err error
	im.judge, err = newJudge(im.planned, im.opts.Now)
	return err
}

// line reports a rejection of a row that is not counted by tally.
func (im *importer) line(l Line) {
	if l.Taken {
		im.report.Changed[l.Reason]++
	} else {
		im.report.Rejected[l.Reason]++
	}
	if im.opts.Line != nil {
		im.opts.Line(l)
	}
}

// rejected reports and counts a row that is not taken over.
func (im *importer) rejected(counts *Counts, table, id, appID string, why *rejection) {
	counts.Read++
	counts.Rejected++
	if !isID(appID) {
		appID = ""
	}
	im.line(Line{Table: table, ID: shownID(id), AppID: appID, Reason: why.reason, Detail: why.detail, Err: why.err})
}

// leftOut reports the rows of a table that cannot be read by their key.
func (im *importer) leftOut(ctx context.Context, t table, counts *Counts) error {
	return t.leftOut(ctx, im.tx, func(key sql.NullString) {
		why := reject(ReasonDuplicate, "several rows have this %s: none of them is taken over", t.key)
		if !key.Valid {
			why = reject(ReasonID, "%s is NULL", t.key)
		}
		im.rejected(counts, t.name, key.String, "", why)
	})
}

func (im *importer) readApps(ctx context.Context) error {
	if err := im.leftOut(ctx, appTable, &im.report.Apps); err != nil {
		return err
	}
	rows, err := appTable.all(ctx, im.tx)
	if err != nil {
		return err
	}
	for _, r := range rows {
		app, why := newApp(r)
		if why != nil {
			im.rejected(&im.report.Apps, TableApps, r.text("app_id"), r.text("app_id"), why)
			continue
		}
		there, err := im.target.App(ctx, app.ID)
		if err != nil && !errors.Is(err, renew.ErrAppNotFound) {
			return fmt.Errorf("read app %s: %w", app.ID, err)
		}
		a := &importedApp{app: app, exists: err == nil, ttl: app.RefreshTTL, issuers: map[string]int{}}
		if a.exists {
			a.ttl = there.RefreshTTL
		}
		im.apps[app.ID] = a
	}
	return nil
}

func (im *importer) readKeys(ctx context.Context) error {
	if err := im.leftOut(ctx, keyTable, &im.report.Keys); err != nil {
		return err
	}
	rows, err := keyTable.all(ctx, im.tx)
	if err != nil {
		return err
	}
	for _, r := range rows {
		k, why := newSigningKey(r)
		app := im.apps[k.appID]
		if why == nil && app == nil {
			why = reject(ReasonApp, "its app is unknown, or is not taken over")
		}
		if why != nil && why.reason != ReasonRevokedKey || app == nil {
			im.rejected(&im.report.Keys, TableKeys, k.id, k.appID, why)
			continue
		}
		im.keys[k.id] = k
		app.keys = append(app.keys, k)
	}
	for _, app := range im.apps {
		sortKeys(app.keys)
	}
	return nil
}

// maxFutureYears is for how long a replaced key may have to verify because of what a
// token says. Tokens of an app whose refresh tokens live longer are verified for that
// long in any case.
const maxFutureYears = 10

// readIssuers reads which issuers the stored refresh tokens have, for apps that are
// new, and when the last one of each app expires.
func (im *importer) readIssuers(ctx context.Context) error {
	isNew := func(app *importedApp) bool { return !app.exists }
	if !slices.ContainsFunc(mapValues(im.apps), isNew) && !im.keysMissing(ctx) {
		return nil
	}
	total, err := issuerTable.count(ctx, im.tx)
	if err != nil {
		return err
	}
	done, last := 0, im.now.AddDate(maxFutureYears, 0, 0).Unix()
	return issuerTable.batches(ctx, im.tx, im.opts.BatchSize, func(batch []row) error {
		for _, r := range batch {
			app := im.apps[r.text("apps_id")]
			issuer, exp, ok := readRefreshToken(r.text("refresh_token"))
			if app == nil || !ok || exp <= im.now.Unix() {
				continue
			}
			app.issuers[issuer]++
			if exp <= last {
				app.lastExp = max(app.lastExp, exp)
			}
		}
		done += len(batch)
		im.progress(StageIssuers, done, total)
		return ctx.Err()
	})
}

// keysMissing reports whether a key of an app that exists is not there. An error
// shows again where it matters.
func (im *importer) keysMissing(ctx context.Context) bool {
	for _, k := range im.keys {
		if _, err := im.target.VerificationKey(ctx, k.appID, k.id); errors.Is(err, renew.ErrKeyNotFound) && !k.revoked {
			return true
		}
	}
	return false
}

func mapValues(apps map[string]*importedApp) []*importedApp {
	values := make([]*importedApp, 0, len(apps))
	for _, id := range sortedIDs(apps) {
		values = append(values, apps[id])
	}
	return values
}

func sortedIDs(apps map[string]*importedApp) []string {
	ids := make([]string, 0, len(apps))
	for id := range apps {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// readRefreshToken returns two claims of a refresh token that is not verified yet.
func readRefreshToken(token string) (issuer string, exp int64, ok bool) {
	members, ok := readPayload(token)
	if !ok {
		return "", 0, false
	}
	issuer, isString := strictjson.String(members["iss"])
	exp, isInteger := strictjson.Integer(members["exp"])
	return issuer, exp, isString && isInteger
}

// readPayload returns the claims of a token that is not verified yet.
func readPayload(token string) (members map[string]json.RawMessage, ok bool) {
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		return nil, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(segments[1])
	if err != nil {
		return nil, false
	}
	members, err = strictjson.Object(payload)
	return members, err == nil
}

func (im *importer) progress(stage Stage, done, total int) {
	if im.opts.Progress != nil {
		im.opts.Progress(Progress{Stage: stage, Done: done, Total: total, Report: im.report.clone()})
	}
}

func (r *Report) clone() Report {
	c := *r
	c.Rejected, c.Changed = map[Reason]int{}, map[Reason]int{}
	for reason, n := range r.Rejected {
		c.Rejected[reason] = n
	}
	for reason, n := range r.Changed {
		c.Changed[reason] = n
	}
	return c
}

// putApps creates the apps that are not there, each with its app key and its issuers,
// so that none is there by half.
func (im *importer) putApps(ctx context.Context) error {
	for _, a := range mapValues(im.apps) {
		counts := &im.report.Apps
		counts.Read++
		if a.exists {
			counts.Existing++
			if im.opts.DryRun {
				there, err := im.target.App(ctx, a.app.ID)
				if err == nil {
					err = im.planned.CreateApp(ctx, there)
				}
				if err != nil {
					return fmt.Errorf("app %s: %w", a.app.ID, err)
				}
			}
			continue
		}
		im.setFormerIssuers(a)
		switch err := im.planned.CreateApp(ctx, a.app); {
		case errors.Is(err, renew.ErrAppExists): // another import was first
			counts.Existing++
		case err != nil:
			return fmt.Errorf("create app %s: %w", a.app.ID, err)
		default:
			counts.Taken++
		}
	}
	return nil
}

// setFormerIssuers accepts the issuers of the app's tokens, those of most tokens
// first.
func (im *importer) setFormerIssuers(a *importedApp) {
	var issuers []string
	for issuer := range a.issuers {
		if issuer != a.app.Issuer {
			issuers = append(issuers, issuer)
		}
	}
	slices.SortFunc(issuers, func(x, y string) int {
		if n := a.issuers[y] - a.issuers[x]; n != 0 {
			return n
		}
		return strings.Compare(x, y)
	})
	leftOut := 0
	for _, issuer := range issuers {
		with := a.app
		with.FormerIssuers = append(slices.Clone(a.app.FormerIssuers), issuer)
		if with.Validate() != nil {
			leftOut++
			continue
		}
		a.app = with
	}
	if leftOut > 0 {
		im.line(Line{
			Table: TableApps, ID: a.app.ID, AppID: a.app.ID, Reason: ReasonIssuers, Taken: true,
			Detail: fmt.Sprintf("%d issuers of its tokens are too many or malformed, and are not accepted", leftOut),
		})
	}
}

// putKeys gives the apps the keys that are not there.
func (im *importer) putKeys(ctx context.Context) error {
	for _, a := range mapValues(im.apps) {
		if err := im.putKeysOf(ctx, a); err != nil {
			return fmt.Errorf("keys of app %s: %w", a.app.ID, err)
		}
	}
	return nil
}

// keyState is what the stores know of a key.
type keyState int

const (
	keyMissing keyState = iota
	keyVerifies
	keyRevoked
)

func (im *importer) keyState(ctx context.Context, k *signingKey) (keyState, error) {
	there, err := im.target.VerificationKey(ctx, k.appID, k.id)
	switch {
	case errors.Is(err, renew.ErrKeyNotFound):
		return keyMissing, nil
	case errors.Is(err, renew.ErrKeyRevoked):
		return keyRevoked, nil
	case err != nil:
		return 0, fmt.Errorf("read key %s: %w", k.id, err)
	case !k.revoked && there.PublicKey() != k.verification.PublicKey():
		return 0, fmt.Errorf("key %s: the store has another key of this ID", k.id)
	}
	return keyVerifies, nil
}

// putKeysOf makes the keys that are missing the active one in turn. A key before the
// active one, in the order of sortKeys, cannot be added any more: it would sign.
func (im *importer) putKeysOf(ctx context.Context, a *importedApp) error {
	active, err := im.activeKey(ctx, a)
	if err != nil {
		return err
	}
	usable := 0
	for i, k := range a.keys {
		state, err := im.keyState(ctx, k)
		if err != nil {
			return err
		}
		if !k.revoked {
			usable++
		}
		switch {
		case k.revoked: // below, when there is another active key
		case im.opts.DryRun:
			err = im.planKey(ctx, a, k, state, i > active)
		case state != keyMissing:
			im.report.Keys.Read++
			im.report.Keys.Existing++
		case i < active:
			im.rejectKeyOrder(k)
		default:
			err = im.rotate(ctx, a, k)
		}
		if err != nil {
			return err
		}
	}
	if usable == 0 {
		im.line(Line{
			Table: TableApps, ID: a.app.ID, AppID: a.app.ID, Reason: ReasonNoKey, Taken: true,
			Detail: "no signing key of it can be taken over: give it one, or no login works",
		})
	}
	return im.revokeKeys(ctx, a)
}

// activeKey returns the place of the active key among those of the app: -1 if the
// app has no active key, and one past the end if that is not among them.
func (im *importer) activeKey(ctx context.Context, a *importedApp) (int, error) {
	active, err := im.target.SigningKey(ctx, a.app.ID)
	switch {
	case errors.Is(err, renew.ErrKeyNotFound), errors.Is(err, renew.ErrAppNotFound):
		return -1, nil
	case err != nil:
		return 0, fmt.Errorf("read signing key: %w", err)
	}
	i := slices.IndexFunc(a.keys, func(k *signingKey) bool { return k.id == active.KeyID() })
	if i < 0 {
		return len(a.keys), nil
	}
	return i, nil
}

func (im *importer) rejectKeyOrder(k *signingKey) {
	im.rejected(&im.report.Keys, TableKeys, k.id, k.appID,
		reject(ReasonKeyOrder, "a later key, or one that is not JWTPlus's, is the active one: adding this one would replace it"))
	delete(im.keys, k.id)
}

// rotate makes k the active key.
func (im *importer) rotate(ctx context.Context, a *importedApp, k *signingKey) error {
	im.report.Keys.Read++
	switch err := im.planned.RotateSigningKey(ctx, a.app.ID, k.key, im.rotationTime(a)); {
	case errors.Is(err, renew.ErrKeyExists): // another import was first
		im.report.Keys.Existing++
	case err != nil:
		return fmt.Errorf("add key %s: %w", k.id, err)
	default:
		im.report.Keys.Taken++
	}
	return nil
}

// rotationTime is from when on the end of a replaced key is counted. A replaced key
// verifies for as long after it as a refresh token of the app lives; if the lifetime
// was longer once, that is not long enough, and the time is later by the difference.
func (im *importer) rotationTime(a *importedApp) time.Time {
	end := im.now.Add(a.ttl)
	if last := time.Unix(a.lastExp, 0); last.After(end) {
		return im.now.Add(last.Sub(end))
	}
	return im.now
}

// planKey is what a dry run does of putKeysOf. The stand-in gets every key, so that
// the sessions are judged as after the import.
func (im *importer) planKey(ctx context.Context, a *importedApp, k *signingKey, state keyState, later bool) error {
	if state == keyMissing && !later {
		im.rejectKeyOrder(k)
		return nil
	}
	if err := im.rotate(ctx, a, k); err != nil {
		return err
	}
	if state != keyMissing {
		im.report.Keys.Taken--
		im.report.Keys.Existing++
	}
	if state == keyRevoked {
		return im.planned.RevokeKey(ctx, a.app.ID, k.id, im.now)
	}
	return nil
}

// revokeKeys reports the keys that are revoked, and revokes those that were taken
// over before.
func (im *importer) revokeKeys(ctx context.Context, a *importedApp) error {
	for _, k := range a.keys {
		if !k.revoked {
			continue
		}
		state, err := im.keyState(ctx, k)
		if err != nil {
			return err
		}
		if state == keyVerifies {
			if !im.opts.DryRun {
				if err := im.admin.RevokeKey(ctx, a.app.ID, k.id, im.now); err != nil {
					return fmt.Errorf("revoke key %s: %w", k.id, err)
				}
			}
			im.report.Keys.Read++
			im.report.Keys.Existing++
			im.line(Line{
				Table: TableKeys, ID: k.id, AppID: k.appID, Reason: ReasonRevokedNow, Taken: true,
				Detail: "JWTPlus has revoked the key since it was taken over, and it is revoked now",
			})
			continue
		}
		im.rejected(&im.report.Keys, TableKeys, k.id, k.appID, reject(ReasonRevokedKey, "the key is revoked: what it signed is rejected"))
	}
	return nil
}
