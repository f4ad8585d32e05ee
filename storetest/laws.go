package storetest

import "slices"

// tokenLaws are the laws of a TokenStore, in the words of renew.TokenStore, with
// their cases.
func tokenLaws() []law[*tokens] {
	return append([]law[*tokens]{
		{"T1", "what CreateSession stored, Session returns: every field, times equal to the millisecond and in UTC, claims the same JSON value to the last digit", keepCases},
		{"T2", "a taken (app, ID) is ErrSessionExists and leaves the old session as it was", takenCases},
		{"T3", "an unknown ID, or another app's, is ErrSessionNotFound", unknownCases},
		{"T4", "Rotate replaces the session as a whole if it exists, is not revoked and its TokenID is from; otherwise it is ErrConflict (or ErrSessionNotFound) and nothing changes; next.TokenID may be from: the row is written once more", rotateCases},
		{"T5", "of any number of Rotates with one from to other token IDs, one takes effect, and no other returns nil", winnerCases},
		{"T6", "once Rotate or RevokeSession has returned nil, every later Session, from any process, shows it: read the primary, not a replica", visibleCases},
		{"T7", "a revoked session is never rotated or revived; revoking again is nil and keeps the first time", revokeCases},
		{"T8", "with a context that is already done: its error, and nothing changes", contextCases},
		{"T9", "the store and its caller share no memory: changing what was passed or returned changes no stored session", sharingCases},
		{"T10", "IDs and subjects are opaque and exact: case, trailing spaces, quotes, %, unicode, 255 bytes; no two are confused, and none is interpreted as SQL or a pattern", exactCases},
		{"T11", "DeleteExpired removes only sessions that had ended before the given time, at most limit; a store may also delete by its own clock a session that ended an hour ago or earlier", purgeCases},
		{"T12", "an outage is a separate error, never ErrSessionNotFound or ErrConflict", outageCases},
		{"T13", "durable stores: an acknowledged write survives a kill of the process and of the database; so does an acknowledgement of what was already so (already revoked, already at that token ID)", crashCases},
		{"S1", "SubjectSessions returns the subject's sessions that are live at the given time, each as Session returns it, newest first, and no others", forSubjects(listCases)},
		{"S2", "RevokeSubject revokes every session of the subject that is not revoked yet, expired ones too, except those to keep, and no others; it returns how many these were", forSubjects(revokeSubjectCases)},
	}, failoverLaws()...)
}

// forSubjects has the cases skipped before they call the store, if it does not implement
// [renew.SubjectStore].
func forSubjects(cases []testCase[*tokens]) []testCase[*tokens] {
	cases = slices.Clone(cases)
	for i, c := range cases {
		cases[i].run = func(e *tokenEnv) {
			needsSubjects(e)
			c.run(e)
		}
	}
	return cases
}
