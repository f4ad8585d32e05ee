package jwtplus_test

import (
	"database/sql"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/jwtplus"
)

// TestForeignTokens promises that a row that no session can be made of is reported
// with its reason, whatever is wrong with it and whatever the size of a batch, and
// that the rows beside it are taken over.
func TestForeignTokens(t *testing.T) {
	f := readFixture(t)
	sign := f.signer(t)
	claims := func(id string, changes record) string {
		c := record{"iss": "fixture-es256", "iat": issuedAt, "nbf": issuedAt, "exp": expiresAt, "jid": id, "sub": "someone", "aud": "web"}
		c = c.with(changes)
		maps.DeleteFunc(c, func(_ string, value any) bool { return value == nil })
		return sign(c)
	}
	refresh := func(id string, changes record) string {
		return claims(id, record{"nbf": issuedAt + 60, "type": "refresh", "sub": nil, "aud": nil}.with(changes))
	}
	cases := []struct {
		name   string
		change func(id string) record
		want   jwtplus.Reason // empty: taken over without a line
		taken  bool
	}{
		{"as it should be", func(string) record { return record{} }, "", true},

		{"sub is NULL", func(string) record { return record{"sub": nil} }, jwtplus.ReasonNull, false},
		{"auth_token is NULL", func(string) record { return record{"auth_token": nil} }, jwtplus.ReasonNull, false},
		{"refresh_token is NULL", func(string) record { return record{"refresh_token": nil} }, jwtplus.ReasonNull, false},
		{"refresh_token_iat is NULL", func(string) record { return record{"refresh_token_iat": nil} }, jwtplus.ReasonNull, false},
		{"refresh_token_nbf is NULL", func(string) record { return record{"refresh_token_nbf": nil} }, jwtplus.ReasonNull, false},
		{"refresh_token_exp is NULL", func(string) record { return record{"refresh_token_exp": nil} }, jwtplus.ReasonNull, false},
		{"apps_id is NULL", func(string) record { return record{"apps_id": nil} }, jwtplus.ReasonApp, false},
		{"key_id is NULL", func(string) record { return record{"key_id": nil} }, jwtplus.ReasonKey, false},
		{"ip_address is NULL", func(string) record { return record{"ip_address": nil} }, jwtplus.ReasonIP, true},
		{"user_agent is NULL", func(string) record { return record{"user_agent": nil} }, jwtplus.ReasonUserAgent, true},

		{"an app that is unknown", func(string) record { return record{"apps_id": generatedID(1)} }, jwtplus.ReasonApp, false},
		{"an app ID in lower case", func(string) record { return record{"apps_id": strings.ToLower(generatedApp)} }, jwtplus.ReasonApp, false},
		{"a key that is unknown", func(string) record { return record{"key_id": generatedID(1)} }, jwtplus.ReasonKey, false},
		{"a key of another app", func(string) record { return record{"key_id": "01M894SDSWTSD3D8D2F3BNFNGB"} }, jwtplus.ReasonKey, false},
		{"a revoked key", func(string) record { return record{"key_id": "01M894SDNCTNQCA3AHAJX65G5A"} }, jwtplus.ReasonRevokedKey, false},

		{"both tokens are empty", func(string) record { return record{"auth_token": "", "refresh_token": ""} }, jwtplus.ReasonEmptyTokens, false},
		{"the auth token is empty", func(string) record { return record{"auth_token": ""} }, jwtplus.ReasonEmptyTokens, false},
		{"the refresh token is empty", func(string) record { return record{"refresh_token": ""} }, jwtplus.ReasonEmptyTokens, false},

		{"a time that is not a number", func(string) record { return record{"refresh_token_iat": "yesterday"} }, jwtplus.ReasonTimes, false},
		{"a time before 1970", func(string) record { return record{"refresh_token_nbf": "-1"} }, jwtplus.ReasonTimes, false},
		{"a time that overflows", func(string) record { return record{"refresh_token_exp": "9223372036854775807"} }, jwtplus.ReasonTimes, false},
		{"a time after that of the token", func(string) record {
			return record{"refresh_token_iat": fmt.Sprint(fixtureClock.Unix() + 3600)}
		}, jwtplus.ReasonTimes, false},
		{"expired", func(string) record { return record{"refresh_token_exp": fmt.Sprint(fixtureClock.Unix())} }, jwtplus.ReasonExpired, false},

		{"an auth token that is not a JWT", func(string) record { return record{"auth_token": "<html>"} }, jwtplus.ReasonAuthToken, false},
		{"an auth token that is cut off", func(id string) record { return record{"auth_token": claims(id, nil)[:200]} }, jwtplus.ReasonAuthToken, false},
		{"an auth token that another key has signed", func(string) record { return record{"key_id": "01M894QFJZ86JC6YVHAQMHP10Y"} }, jwtplus.ReasonAuthToken, false},
		{"an auth token without a signature", func(string) record {
			return record{"auth_token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzb21lb25lIn0."}
		}, jwtplus.ReasonAuthToken, false},
		{"an auth token of another subject", func(id string) record { return record{"auth_token": claims(id, record{"sub": "another"})} }, jwtplus.ReasonSubject, false},
		{"a subject that is a number", func(id string) record {
			return record{"auth_token": claims(id, record{"sub": 7}), "sub": sha512Hex("7")}
		}, jwtplus.ReasonSubject, false},
		{"an empty subject", func(id string) record {
			return record{"auth_token": claims(id, record{"sub": ""}), "sub": sha512Hex("")}
		}, jwtplus.ReasonSubject, false},
		{"a subject in another case, beside one of another user", func(id string) record {
			return record{"auth_token": claims(id, record{"sub": "another", "SUB": "someone"})}
		}, "", true},
		{"an audience that is a number", func(id string) record { return record{"auth_token": claims(id, record{"aud": 7})} }, jwtplus.ReasonAudience, false},
		{"a subject with a control character", func(id string) record {
			return record{"auth_token": claims(id, record{"sub": "a\nb"}), "sub": sha512Hex("a\nb")}
		}, jwtplus.ReasonLongSubject, true},
		{"custom claims of over 16 KiB", func(id string) record {
			return record{"auth_token": claims(id, record{"blob": strings.Repeat("x", 17<<10)})}
		}, jwtplus.ReasonClaims, false},

		{"a refresh token that is not a JWT", func(string) record { return record{"refresh_token": "\x01\u202e"} }, jwtplus.ReasonRefreshToken, false},
		{"a refresh token of another session", func(string) record { return record{"refresh_token": refresh(generatedID(1), nil)} }, jwtplus.ReasonRefreshToken, false},
		{"a refresh token that names a session", func(id string) record { return record{"refresh_token": refresh(id, record{"sid": generatedID(1)})} }, jwtplus.ReasonRefreshToken, false},
		{"an auth token for a refresh token", func(id string) record { return record{"refresh_token": claims(id, nil)} }, jwtplus.ReasonRefreshToken, false},
		{"a refresh token that is changed", func(id string) record {
			return record{"refresh_token": strings.Replace(refresh(id, nil), ".", ".A", 1)}
		}, jwtplus.ReasonRefreshToken, false},
		{"a refresh token from the future", func(id string) record {
			return record{"refresh_token": refresh(id, record{"iat": fixtureClock.Unix() + 3600})}
		}, jwtplus.ReasonRefreshToken, false},
	}
	d := newOldDatabase(t)
	for _, table := range []string{"apps", "app_keys"} {
		for _, r := range f.tables[table] {
			d.insert(table, r)
		}
	}
	base := record{
		"apps_id": generatedApp, "key_id": generatedKey, "sub": sha512Hex("someone"),
		"refresh_token_iat": issuedAt, "refresh_token_nbf": issuedAt + 60, "refresh_token_exp": expiresAt,
		"ip_address": "192.0.2.1", "user_agent": "foreign",
	}
	ids := map[string]int{}
	for i, c := range cases {
		id := generatedID(100 + i)
		ids[id] = i
		r := base.with(record{"token_id": id, "auth_token": claims(id, nil), "refresh_token": refresh(id, nil)})
		d.insert("tokens", r.with(c.change(id)))
	}
	d.exec("ALTER TABLE tokens DROP PRIMARY KEY, MODIFY token_id VARCHAR(255) NULL")
	for _, id := range []any{nil, nil, generatedID(50), generatedID(50), generatedID(51), strings.ToLower(generatedID(51)), strings.ToLower(generatedID(52)), "<a token, by mistake>" + strings.Repeat("x", 50)} {
		d.insert("tokens", base.with(record{"token_id": id, "auth_token": "x", "refresh_token": "x"}))
	}
	for _, size := range []int{1, 2, 3, 7, 500} {
		t.Run(fmt.Sprintf("in batches of %d", size), func(t *testing.T) {
			s := newMemory(t)
			report, lines := run(t, d, s, jwtplus.Options{BatchSize: size})
			require.Equal(t, len(cases)+8, report.Sessions.Read)
			byID := map[string][]jwtplus.Line{}
			for _, l := range lines {
				if l.Table == jwtplus.TableTokens {
					byID[l.ID] = append(byID[l.ID], l)
				}
				require.NotContains(t, l.String(), "mistake", "a Line shows what is not an ID")
			}
			for id, i := range ids {
				checkCase(t, s, cases[i].name, id, byID[id], cases[i].want, cases[i].taken)
			}
			require.Equal(t, []jwtplus.Reason{jwtplus.ReasonID, jwtplus.ReasonID}, reasons(byID[""]), "rows whose ID is NULL")
			require.Equal(t, []jwtplus.Reason{jwtplus.ReasonDuplicate, jwtplus.ReasonDuplicate}, reasons(byID[generatedID(50)]))
			require.Equal(t, []jwtplus.Reason{jwtplus.ReasonDuplicate}, reasons(byID[generatedID(51)]), "one but for the case")
			require.Equal(t, 4, report.Rejected[jwtplus.ReasonDuplicate])
			require.Equal(t, 4, report.Rejected[jwtplus.ReasonID])
		})
	}
}

func reasons(lines []jwtplus.Line) (all []jwtplus.Reason) {
	for _, l := range lines {
		all = append(all, l.Reason)
	}
	return all
}

func checkCase(t *testing.T, s stores, name, id string, lines []jwtplus.Line, want jwtplus.Reason, taken bool) {
	t.Helper()
	if want == "" {
		require.Empty(t, lines, name)
	} else {
		require.Len(t, lines, 1, name)
		require.Equal(t, want, lines[0].Reason, "%s: %s", name, lines[0])
		require.Equal(t, taken, lines[0].Taken, name)
		require.NotEmpty(t, lines[0].Detail, name)
	}
	_, err := s.tokens.Session(t.Context(), generatedApp, id)
	if taken {
		require.NoError(t, err, name)
		return
	}
	require.ErrorIs(t, err, renew.ErrSessionNotFound, name)
}

// TestForeignKeysAndApps promises the same of the rows of keys and apps.
func TestForeignKeysAndApps(t *testing.T) {
	f := readFixture(t)
	key := f.row(t, "app_keys", "key_id", generatedKey)
	other := f.row(t, "app_keys", "key_id", "01M894QFJZ86JC6YVHAQMHP10Y")
	app := f.row(t, "apps", "app_id", generatedApp)
	pem := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	decoded, err := base64.StdEncoding.DecodeString(key.text("private_key"))
	require.NoError(t, err)
	keyCases := map[string]struct {
		change record
		want   jwtplus.Reason
	}{
		"an app that is unknown":        {record{"app_id": generatedID(1)}, jwtplus.ReasonApp},
		"app_id is NULL":                {record{"app_id": nil}, jwtplus.ReasonNull},
		"private_key is NULL":           {record{"private_key": nil}, jwtplus.ReasonNull},
		"is_revoked is NULL":            {record{"is_revoked": nil}, jwtplus.ReasonNull},
		"is_revoked is something else":  {record{"is_revoked": "maybe"}, jwtplus.ReasonMalformedKey},
		"is_expired is something else":  {record{"is_expired": "1"}, jwtplus.ReasonMalformedKey},
		"revoked":                       {record{"is_revoked": "yes"}, jwtplus.ReasonRevokedKey},
		"not base64":                    {record{"private_key": "%%%"}, jwtplus.ReasonMalformedKey},
		"a public key that is not PEM":  {record{"public_key": pem("nothing")}, jwtplus.ReasonMalformedKey},
		"a private key that is cut off": {record{"private_key": pem(string(decoded[:60]))}, jwtplus.ReasonMalformedKey},
		"a private key of another key":  {record{"private_key": other["private_key"]}, jwtplus.ReasonMalformedKey},
		"the halves exchanged":          {record{"private_key": key["public_key"], "public_key": key["private_key"]}, jwtplus.ReasonMalformedKey},
		"an algorithm of another curve": {record{"key_algo": "ES384"}, jwtplus.ReasonMalformedKey},
		"an algorithm of another kind":  {record{"key_algo": "HS256"}, jwtplus.ReasonMalformedKey},
		"an empty algorithm":            {record{"key_algo": ""}, jwtplus.ReasonMalformedKey},
	}
	appCases := map[string]struct {
		change record
		want   jwtplus.Reason
	}{
		"app_name is NULL":                        {record{"app_name": nil}, jwtplus.ReasonNull},
		"app_key is NULL":                         {record{"app_key": nil}, jwtplus.ReasonNull},
		"an app key that is not a hash":           {record{"app_key": "secret"}, jwtplus.ReasonAppSettings},
		"a name that is empty":                    {record{"app_name": ""}, jwtplus.ReasonAppSettings},
		"a name with a control character":         {record{"app_name": "a\tb"}, jwtplus.ReasonAppSettings},
		"a lifetime of zero":                      {record{"token_expiry": 0}, jwtplus.ReasonAppSettings},
		"a lifetime below zero":                   {record{"refresh_nbf": -1}, jwtplus.ReasonAppSettings},
		"a refresh token that ends first":         {record{"refresh_expiry": 3600}, jwtplus.ReasonAppSettings},
		"a refresh token that is never valid":     {record{"refresh_nbf": 30_000_000}, jwtplus.ReasonAppSettings},
		"an auth token that is never valid":       {record{"token_nbf": 3600}, jwtplus.ReasonAppSettings},
		"a refresh lifetime of zero, no default!": {record{"refresh_expiry": 0}, jwtplus.ReasonAppSettings},
	}
	d := f.database(t)
	want, i := map[string]jwtplus.Reason{}, 0
	for _, c := range keyCases {
		i++
		want[generatedID(i)] = c.want
		d.insert("app_keys", key.with(record{"key_id": generatedID(i)}).with(c.change))
	}
	for _, c := range appCases {
		i++
		want[generatedID(i)] = c.want
		d.insert("apps", app.with(record{"app_id": generatedID(i)}).with(c.change))
	}
	want[generatedID(1000)] = jwtplus.ReasonNoKey
	d.insert("apps", app.with(record{"app_id": generatedID(1000)}))
	s := newMemory(t)
	report, lines := run(t, d, s, jwtplus.Options{})
	require.Equal(t, jwtplus.Counts{Read: 5 + len(appCases), Taken: 5, Rejected: len(appCases)}, report.Apps)
	require.Equal(t, jwtplus.Counts{Read: 11 + len(keyCases), Taken: 9, Rejected: 2 + len(keyCases)}, report.Keys)
	got := map[string]jwtplus.Reason{}
	for _, l := range lines {
		if _, ours := want[l.ID]; ours {
			got[l.ID] = l.Reason
		}
		require.NotContains(t, l.String(), "BEGIN")
	}
	require.Equal(t, want, got)
	active, err := s.keys.SigningKey(t.Context(), generatedApp)
	require.NoError(t, err)
	require.Equal(t, generatedKey, active.KeyID())
}

// TestEmptyAndWrongDatabases promises that tables without rows are no error, and that
// a database that cannot be read as a whole is one.
func TestEmptyAndWrongDatabases(t *testing.T) {
	d, s := newOldDatabase(t), newMemory(t)
	report, lines := run(t, d, s, jwtplus.Options{})
	require.Zero(t, report.Apps.Read+report.Keys.Read+report.Sessions.Read)
	require.Empty(t, lines)
	source := jwtplus.NewSource(d.DB)

	d.exec("ALTER TABLE tokens ENGINE=MyISAM")
	_, err := jwtplus.Import(t.Context(), source, s.keys, s.tokens, jwtplus.Options{})
	require.ErrorContains(t, err, "not InnoDB")

	d.exec("DROP TABLE tokens")
	_, err = jwtplus.Import(t.Context(), source, s.keys, s.tokens, jwtplus.Options{})
	require.ErrorContains(t, err, "no table tokens")

	_, err = jwtplus.Import(t.Context(), jwtplus.NewSource(nil), s.keys, s.tokens, jwtplus.Options{})
	require.ErrorContains(t, err, "source is nil")
}

// TestEncodingOfTheConnection promises that a connection which changes text is an
// error: an app's name would become another issuer.
func TestEncodingOfTheConnection(t *testing.T) {
	d, s := newOldDatabase(t), newMemory(t)
	server := mariaDB.Server(t)
	for _, setting := range []string{"charset=latin1", "charset=utf8", "character_set_results=latin1", "character_set_client=latin1"} {
		db, err := sql.Open(server.Driver(), withSetting(server.DSN(d.name), setting))
		require.NoError(t, err)
		_, err = jwtplus.Import(t.Context(), jwtplus.NewSource(db), s.keys, s.tokens, jwtplus.Options{})
		require.ErrorContains(t, err, "must be utf8mb4", setting)
		require.NoError(t, db.Close())
	}
}

func withSetting(dsn, setting string) string {
	if strings.Contains(dsn, "?") {
		return dsn + "&" + setting
	}
	return dsn + "?" + setting
}

// TestLongLifetimes promises that the issuers of all tokens are accepted, however long
// these live.
func TestLongLifetimes(t *testing.T) {
	f := readFixture(t)
	d := f.database(t)
	const lifetime = 30 * 365 * 24 * 3600
	d.exec("UPDATE apps SET refresh_expiry = ?", lifetime)
	d.exec("UPDATE app_keys SET is_expired = 'no' WHERE is_expired = 'yes' AND is_revoked = 'no'")
	token := f.generate(t, d, 1)[0]
	refresh := f.signer(t)(record{
		"iss": "a former name", "iat": issuedAt, "nbf": issuedAt + 60, "exp": issuedAt + lifetime, "jid": token.tokenID, "type": "refresh",
	})
	d.exec("UPDATE tokens SET refresh_token = ?, refresh_token_exp = ? WHERE token_id = ?", refresh, issuedAt+lifetime, token.tokenID)
	s := newMemory(t)
	report, _ := run(t, d, s, jwtplus.Options{})
	require.Zero(t, report.Rejected[jwtplus.ReasonRefreshToken])
	app, err := s.keys.App(t.Context(), generatedApp)
	require.NoError(t, err)
	require.Contains(t, app.FormerIssuers, "a former name")
	server := newServer(t, s, s.tokens)
	status, body := post(t, server.URL+"/app/"+generatedApp+"/renew", f.appKeys[generatedApp], renewal(refresh))
	require.Equal(t, http.StatusOK, status, "%s", body)
}

// TestSnapshot promises that an import sees the database as it was when it began.
func TestSnapshot(t *testing.T) {
	f := readFixture(t)
	d, s := f.database(t), newMemory(t)
	f.generate(t, d, 10)
	deleted := false
	report, _ := run(t, d, s, jwtplus.Options{BatchSize: 1, Progress: func(jwtplus.Progress) {
		if !deleted {
			d.exec("DELETE FROM tokens")
			deleted = true
		}
	}})
	require.Equal(t, 44+10, report.Sessions.Taken)
}
