package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/jwtrenew/renew"
)

// rotateCases test law T4.
var rotateCases = append(everyValue(rotatesValue), []testCase[*tokens]{
	{name: "replaces-every-field", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		next := otherThan(s)
		return []tokenOp{
			rotateSessionOp(s.TokenID, next).as("to a session with every field changed"),
			rotateSessionOp(next.TokenID, successor(next)).as("for the second time"),
		}
	})},
	{name: "empties-fields", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		next := successor(s)
		next.Audience, next.Claims, next.IdempotencyKeyHash, next.EndsAt = nil, nil, nil, time.Time{}
		next.IP, next.UserAgent = "", ""
		return []tokenOp{rotateSessionOp(s.TokenID, next).as("to a session with its optional fields empty")}
	})},
	{name: "from-another-token", run: fromAnotherToken},
	{name: "missing-session", run: sequence(nil, func(e *tokenEnv, _ renew.Session) []tokenOp {
		missing := newSession(e)
		return []tokenOp{
			rotateSessionOp(missing.TokenID, successor(missing)).as("of a session that was never stored"),
			readOp(keyOf(missing)).as("after Rotate of the unknown session"),
		}
	})},
	{name: "session-of-another-app", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		next := successor(s)
		next.AppID += "-other"
		return []tokenOp{
			rotateSessionOp(s.TokenID, next).as("with the ID and the token ID of another app's session"),
			readOp(keyOf(next)).as("after Rotate with another app's session"),
		}
	})},
	{name: "touches-no-other-session", run: sequence(nil, func(e *tokenEnv, s renew.Session) []tokenOp {
		twin := s.Clone()                                   // in another app, with the same IDs
		twin.AppID, twin.TokenID = e.app+"-second", newID() // the same token ID has twinOf
		return []tokenOp{createSessionOp(twin), createSessionOp(other(e, s)), rotateSessionOp(s.TokenID, successor(s))}
	})},
	{name: "expired-session", run: sequence((*config).justEnded, func(_ *tokenEnv, s renew.Session) []tokenOp {
		return []tokenOp{rotateSessionOp(s.TokenID, successor(s)).as("of a session that has ended")}
	})},
	{name: "any-order", run: anySessions},
}...)

// wrongFroms are values of from that are near to the current token ID and not
// equal to it.
func wrongFroms(s renew.Session) map[string]string {
	list := lookalikes(s.TokenID)
	list["the previous token ID"] = s.PreviousTokenID
	list["the session's ID"] = s.ID
	list["the current token ID and a null and more"] = s.TokenID + "\x00" + "0"
	return list
}

func fromAnotherToken(e *tokenEnv) {
	s := created(e)
	for what, from := range wrongFroms(s) {
		err := e.b.Rotate(e.ctx, from, successor(s))
		if _, ulidErr := ulid.ParseStrict(from); (ulidErr != nil || strings.ContainsRune(from, 0)) && err != nil && !isNamed(err) {
			// A store may reject what is not a ULID, or what it cannot store.
			unchanged(e, s, "Rotate from "+what)
			continue
		}
		e.wantError("Rotate from "+what, err, renew.ErrConflict)
		unchanged(e, s, "Rotate from "+what)
	}
}

// winnerCases test law T5.
var winnerCases = []testCase[*tokens]{
	{name: "second-is-rejected", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		next := successor(s)
		return []tokenOp{
			rotateSessionOp(s.TokenID, next),
			rotateSessionOp(s.TokenID, next).as("for the second time, with the same from and the same next"),
			rotateSessionOp(s.TokenID, successor(s)).as("for the second time, with the same from and another next"),
		}
	})},
	{name: "exactly-one-winner", run: exactlyOneWinner},
	{name: "stampede", run: rotateStampede},
	{name: "one-winner-a-generation", run: oneWinnerAGeneration},
	{name: "linearizable", run: winnersLinearizable},
	{name: "concurrent", run: raceOfSessions("Rotate")},
}

// oneWinner judges a race when all calls have returned: at most one contender was
// told nil, and the stored session is that contender's, or one's whose result was
// lost. before is the token ID that the session was at, empty if it did not
// exist; a race in which all got an error that may be retried may leave it so.
func oneWinner(e *tokenEnv, race string, contenders []renew.Session, errs []error, before string) (winner int) {
	winner = -1
	for i, err := range errs {
		if err != nil {
			continue
		}
		if winner >= 0 {
			e.fatalf("expected at most one nil of %s\nthe store returned nil for %s and for %s", race,
				named("token", contenders[winner].TokenID), named("token", contenders[i].TokenID))
		}
		winner = i
	}
	got, err := e.handle(winner+1).Session(e.ctx, contenders[0].AppID, contenders[0].ID)
	if errors.Is(err, renew.ErrSessionNotFound) && winner < 0 && before == "" {
		return -1
	}
	if err != nil {
		e.fatalf("expected Session to return the winner of %s\nthe store returned the error %q", race, err)
	}
	if winner >= 0 {
		if got.TokenID != contenders[winner].TokenID {
			e.fatalf("expected the session of the one that was told nil, of %s: %s\nthe store has %s", race,
				describe(contenders[winner]), describe(got))
		}
		return winner
	}
	if got.TokenID == before {
		return -1
	}
	for i, c := range contenders {
		if got.TokenID == c.TokenID && !errors.Is(errs[i], renew.ErrConflict) && !errors.Is(errs[i], renew.ErrSessionExists) {
			return i // its result was lost
		}
	}
	e.fatalf("expected that a winner of %s is not told that it has lost\nthe store has %s", race, describe(got))
	return -1
}

// rotateRace lets clients rotate the session from its token ID concurrently, repeats
// what ended in an error that may be retried, and returns the session that won.
func rotateRace(e *tokenEnv, s renew.Session, clients int, race string) renew.Session {
	const tries = 50
	var contenders []renew.Session
	var errs []error
	for range tries {
		first := len(contenders)
		for range clients {
			contenders = append(contenders, successor(s))
		}
		errs = append(errs, make([]error, clients)...)
		e.race(clients, func(i int) { errs[first+i] = e.handle(i).Rotate(e.ctx, s.TokenID, contenders[first+i]) })
		for _, err := range errs[first:] {
			if errors.Is(err, renew.ErrSessionNotFound) {
				e.fatalf("expected nil, ErrConflict or an error to be retried of each of %s\nthe store returned %q", race, err)
			}
		}
		if winner := oneWinner(e, race, contenders, errs, s.TokenID); winner >= 0 {
			return contenders[winner]
		}
		if allConflict(errs) {
			e.fatalf("expected one nil of %s\nthe store returned ErrConflict for all of them, and still has the session at from", race)
		}
	}
	e.fatalf("expected one nil of %s, after retries where needed\nthe store returned errors %d times over", race, tries)
	return renew.Session{}
}

func allConflict(errs []error) bool {
	for _, err := range errs {
		if !errors.Is(err, renew.ErrConflict) {
			return false
		}
	}
	return true
}

func exactlyOneWinner(e *tokenEnv) {
	const clients = 16
	for round := range e.rounds(60) {
		s := newSession(e)
		create(e, s)
		rotateRace(e, s, clients, fmt.Sprintf("%d Rotates with one from (round %d)", clients, round))
	}
}

func oneWinnerAGeneration(e *tokenEnv) {
	const clients = 4
	s := newSession(e)
	s.Claims = json.RawMessage(`{"n":1}`)
	create(e, s)
	for n := range e.rounds(150) {
		s = rotateRace(e, s, clients, fmt.Sprintf("%d Rotates with one from, in generation %d", clients, n))
	}
}
