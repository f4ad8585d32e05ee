package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// TestSession shows a session from login to logout, over a socket.
func TestSession(t *testing.T) {
	p := start(t)
	require.Regexp(t, `^http://127\.0\.0\.1:[1-9]\d*$`, p.url)
	require.Equal(t, "demo", p.appID)
	require.Regexp(t, `^[\w-]{43}$`, p.appKey)

	first := p.login(t, loginBody)
	second := p.renewed(t, first.RefreshToken)
	third := p.renewed(t, second.RefreshToken)
	require.NotEqual(t, segment(t, second.AuthToken, 1)["jid"], segment(t, third.AuthToken, 1)["jid"])
	for _, b := range []bundle{first, second, third} {
		a := p.call(t, http.MethodGet, "/me", "Bearer "+b.AuthToken, "")
		require.Equal(t, http.StatusOK, a.status, a.body)
		var me map[string]any
		require.NoError(t, json.Unmarshal([]byte(a.body), &me))
		require.Equal(t, "ann@example.com", me["sub"])
		require.Equal(t, []any{"web-app"}, me["aud"])
		require.Len(t, me["session_id"], 26)
	}

	a := p.call(t, http.MethodPost, "/logout", "Bearer "+third.AuthToken, "")
	require.Equal(t, http.StatusNoContent, a.status)
	require.Empty(t, a.body)
	requireRejected(t, p.renew(t, third.RefreshToken))
	again := p.call(t, http.MethodPost, "/logout", "bearer "+first.AuthToken, "")
	require.Equal(t, http.StatusNoContent, again.status)
	still := p.call(t, http.MethodGet, "/me", "Bearer "+third.AuthToken, "")
	require.Equal(t, http.StatusOK, still.status, "an auth token is valid until it expires, as logout says")
}

// TestReuse shows that a refresh token is valid for one renewal.
func TestReuse(t *testing.T) {
	p := start(t)
	b := p.login(t, loginBody)
	p.renewed(t, b.RefreshToken)
	requireRejected(t, p.renew(t, b.RefreshToken))
}

// TestEndpoint shows that what the library mounts is what it documents.
func TestEndpoint(t *testing.T) {
	p := start(t)
	b := p.login(t, loginBody)
	body := `{"refresh_token":"` + b.RefreshToken + `","ip":"192.0.2.1","useragent":"browser/1.0"}`
	a := p.call(t, http.MethodPost, "/app/demo/renew", "not "+p.appKey, body)
	require.Equal(t, http.StatusForbidden, a.status)
	require.Equal(t, `{"message":"invalid app key"}`, a.body)

	a = p.call(t, http.MethodGet, "/app/demo/jwks.json", "", "")
	require.Equal(t, http.StatusOK, a.status)
	var set struct {
		Keys []struct {
			KeyID string `json:"kid"`
			Curve string `json:"crv"`
		} `json:"keys"`
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &set))
	require.Len(t, set.Keys, 1)
	require.Equal(t, b.KeyID, set.Keys[0].KeyID)
	require.Equal(t, "P-256", set.Keys[0].Curve)
}

// The headings of the printed commands.
const (
	logIn      = "Log in"
	ask        = "Ask for a resource"
	renewTwice = "Renew. Paste it again, and the used token is rejected"
	logOut     = "Log out"
)

// TestPastedCommands shows that the printed commands do in a shell what their
// headings say.
func TestPastedCommands(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("the commands are curl's, and curl is not installed")
	}
	for _, shell := range []string{"sh", "bash", "zsh"} {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skip("this shell is not installed")
			}
			p := start(t)
			c := p.commands
			lines := paste(t, path, c[logIn]+c[ask]+c[renewTwice]+c[renewTwice])
			require.Len(t, lines, 4)
			login, renewed := readBundle(t, lines[0]), readBundle(t, lines[2])
			require.Contains(t, lines[1], `"claims":{"role":"admin"}`)
			require.Equal(t, segment(t, login.AuthToken, 1)["sid"], segment(t, renewed.AuthToken, 1)["sid"])
			require.Equal(t, `{"message":"invalid refresh token"}`, lines[3])
		})
	}
}

// TestPastedLogout shows that the printed logout ends the session.
func TestPastedLogout(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("the commands are curl's, and curl is not installed")
	}
	p := start(t)
	lines := paste(t, "sh", p.commands[logIn]+p.commands[logOut]+p.commands[renewTwice])
	require.Len(t, lines, 2)
	require.Equal(t, `{"message":"invalid refresh token"}`, lines[1])
}

// paste runs the commands and returns the lines that they print.
func paste(t *testing.T, shell, commands string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), shell)
	cmd.Stdin = strings.NewReader(commands)
	cmd.Env = append(os.Environ(), "no_proxy=*")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	require.NoError(t, err, "%s", &stderr)
	require.Empty(t, stderr.String())
	return strings.Split(strings.TrimSuffix(string(stdout), "\n"), "\n")
}

// TestClaims shows that custom claims keep their value, to the last digit,
// through login, renewals and the resource.
func TestClaims(t *testing.T) {
	p := start(t)
	custom := map[string]string{
		"number": `9007199254740993`,
		"small":  `0.10000000000000000001`,
		"large":  `1e400`,
		"nested": `{"id":18446744073709551616,"list":[1,null,true,""]}`,
		"text":   `"Zoë \u003c\u0000"`,
	}
	body := strings.TrimSuffix(loginBody, "}")
	for name, value := range custom {
		body += fmt.Sprintf(`,%q:%s`, name, value)
	}
	b := p.login(t, body+"}")
	for range 3 {
		b = p.renewed(t, b.RefreshToken)
	}
	a := p.call(t, http.MethodGet, "/me", "Bearer "+b.AuthToken, "")
	var me struct {
		Claims map[string]json.RawMessage `json:"claims"`
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &me))
	require.Len(t, me.Claims, len(custom))
	for name, value := range custom {
		require.Equal(t, value, string(segment(t, b.AuthToken, 1)[name]), "in the token")
		require.Equal(t, value, string(me.Claims[name]), "from the resource")
	}
}

// TestAudience shows the forms that a login may give it.
func TestAudience(t *testing.T) {
	p := start(t)
	for given, want := range map[string]string{
		`"web"`:         `"web"`,
		`["web"]`:       `"web"`,
		`["web","app"]`: `["web","app"]`,
		`[]`:            ``,
	} {
		b := p.login(t, `{"sub":"ann","aud":`+given+`,"ip":"192.0.2.1","useragent":"x"}`)
		require.Equal(t, want, string(segment(t, b.AuthToken, 1)["aud"]), given)
	}
	b := p.login(t, `{"sub":"ann","ip":"192.0.2.1","useragent":"x"}`)
	require.NotContains(t, segment(t, b.AuthToken, 1), "aud")
}

// TestLoginRejected shows what the client of a malformed login is told. What two
// JSON libraries could read differently is malformed.
func TestLoginRejected(t *testing.T) {
	p := start(t)
	const body, notObject = "body", "is not a single JSON object, in UTF-8 and without duplicate members"
	with := func(members string) string { return strings.TrimSuffix(loginBody, "}") + "," + members + "}" }
	for name, test := range map[string]struct{ body, field, message string }{
		"empty":                             {"", body, notObject},
		"not JSON":                          {`{"sub":`, body, notObject},
		"no object":                         {`["sub"]`, body, notObject},
		"null":                              {`null`, body, notObject},
		"two objects":                       {loginBody + loginBody, body, notObject},
		"trailing bracket":                  {loginBody + "]", body, notObject},
		"byte order mark":                   {"\xef\xbb\xbf" + loginBody, body, notObject},
		"UTF-16":                            {"{\x00}\x00", body, notObject},
		"two subjects":                      {with(`"sub":"admin"`), body, notObject},
		"two subjects, one escaped":         {with(`"s\u0075b":"admin"`), body, notObject},
		"a claim twice":                     {with(`"role":"user","role":"admin"`), body, notObject},
		"a claim twice, deep":               {with(`"a":[{"role":"user","role":"admin"}]`), body, notObject},
		"not UTF-8":                         {"{\"sub\":\"ann\xff\"}", body, notObject},
		"overlong UTF-8":                    {"{\"sub\":\"ann\xc0\x80\"}", body, notObject},
		"half a surrogate":                  {`{"sub":"ann\ud800"}`, body, notObject},
		"a name not UTF-8":                  {with("\"a\xff\":1"), body, notObject},
		"a claim not UTF-8":                 {with("\"a\":[\"\xff\"]"), body, notObject},
		"too long":                          {with(`"x":"` + strings.Repeat("x", maxLoginBytes) + `"`), body, "is too long, or was not sent in full"},
		"no subject":                        {`{"ip":"192.0.2.1","useragent":"x"}`, "sub", "is required"},
		"subject empty":                     {`{"sub":""}`, "sub", "is required"},
		"subject null":                      {`{"sub":null}`, "sub", "is not a string"},
		"subject a number":                  {`{"sub":1}`, "sub", "is not a string"},
		"audience":                          {`{"sub":"ann","aud":{}}`, "aud", "is neither a string nor an array of strings"},
		"audience null":                     {`{"sub":"ann","aud":null}`, "aud", "is neither a string nor an array of strings"},
		"audience mixed":                    {`{"sub":"ann","aud":["web",1]}`, "aud", "is neither a string nor an array of strings"},
		"audience of nulls":                 {`{"sub":"ann","aud":[null]}`, "aud", "is neither a string nor an array of strings"},
		"address null":                      {`{"sub":"ann","ip":null}`, "ip", "is not a string"},
		"address empty":                     {`{"sub":"ann","ip":""}`, "ip", "is required"},
		"user agent a list":                 {`{"sub":"ann","useragent":["x"]}`, "useragent", "is not a string"},
		"reserved claim":                    {with(`"exp":1`), "claims", `are rejected: the name "exp" is reserved`},
		"subject's name in another case":    {with(`"SUB":"bob"`), "claims", `are rejected: the name "SUB" is reserved`},
		"user agent's name in another case": {with(`"UserAgent":"x"`), "claims", `are rejected: the name "UserAgent" is reserved`},
	} {
		t.Run(name, func(t *testing.T) {
			requireMalformed(t, p.call(t, http.MethodPost, "/login", "", test.body), test.field, test.message)
		})
	}
	require.NotContains(t, p.log.String(), "msg=issued")
}

func requireMalformed(t *testing.T, a response, field, message string) {
	t.Helper()
	require.Equal(t, http.StatusBadRequest, a.status, a.body)
	require.Equal(t, "application/json", a.header.Get("Content-Type"))
	require.Equal(t, "no-store", a.header.Get("Cache-Control"))
	var got failure
	require.NoError(t, json.Unmarshal([]byte(a.body), &got))
	require.Equal(t, "invalid request", got.Message)
	require.Contains(t, got.Errors, renew.FieldError{Field: field, Message: message})
}

// TestLoginHeaders shows which headers a login may have: none that an HTML form
// of another site can send.
func TestLoginHeaders(t *testing.T) {
	p := start(t)
	const notJSON, notSupported = "is not application/json, with charset utf-8 or none", "is not supported"
	for name, test := range map[string]struct {
		headers        []string
		field, message string
	}{
		"JSON":              {[]string{"Content-Type: application/json"}, "", ""},
		"JSON in UTF-8":     {[]string{"Content-Type: Application/JSON; charset=UTF-8"}, "", ""},
		"no type":           {nil, "Content-Type", notJSON},
		"a form's type":     {[]string{"Content-Type: text/plain"}, "Content-Type", notJSON},
		"JSON in Latin-1":   {[]string{"Content-Type: application/json; charset=latin1"}, "Content-Type", notJSON},
		"another JSON type": {[]string{"Content-Type: application/problem+json"}, "Content-Type", notJSON},
		"two types":         {[]string{"Content-Type: application/json", "Content-Type: text/plain"}, "Content-Type", notJSON},
		"a coding":          {[]string{"Content-Type: application/json", "Content-Encoding: gzip"}, "Content-Encoding", notSupported},
	} {
		t.Run(name, func(t *testing.T) {
			a := p.send(t, append([]string{"POST /login HTTP/1.1", fmt.Sprintf("Content-Length: %d", len(loginBody))}, test.headers...), loginBody)
			if test.field == "" {
				require.Equal(t, http.StatusOK, a.status, a.body)
				return
			}
			requireMalformed(t, a, test.field, test.message)
		})
	}
}

// TestLoginOfTheConnection shows that a login that names no address and no user
// agent has those of the request.
func TestLoginOfTheConnection(t *testing.T) {
	p := start(t)
	body := `{"sub":"ann"}`
	a := p.send(t, []string{
		"POST /login HTTP/1.1", "Content-Type: application/json", "User-Agent: M\xfcller",
		"X-Forwarded-For: 203.0.113.7", fmt.Sprintf("Content-Length: %d", len(body)),
	}, body)
	require.Equal(t, http.StatusOK, a.status, a.body)
	claims := segment(t, readBundle(t, strings.TrimSuffix(a.body, "\n")).AuthToken, 1)
	require.Equal(t, `"127.0.0.1"`, string(claims["ip"]), "not what the client claims")
	require.Equal(t, "\"M\ufffdller\"", string(claims["useragent"]))
}

// TestMethods shows that a method that a path does not have does nothing.
func TestMethods(t *testing.T) {
	p := start(t)
	b := p.login(t, loginBody)
	for _, request := range []string{"GET /login", "HEAD /login", "GET /logout", "DELETE /logout", "POST /me"} {
		method, path, _ := strings.Cut(request, " ")
		a := p.call(t, method, path, "Bearer "+b.AuthToken, "")
		require.Equal(t, http.StatusMethodNotAllowed, a.status, request)
	}
	head := p.call(t, http.MethodHead, "/me", "Bearer "+b.AuthToken, "")
	require.Equal(t, http.StatusOK, head.status)
	require.Equal(t, http.StatusUnauthorized, p.call(t, http.MethodHead, "/me", "", "").status)
	p.renewed(t, b.RefreshToken) // none of them has ended the session
}

// TestRepeatedAuthorization shows that two tokens are rejected: a proxy in front
// could have looked at the other one.
func TestRepeatedAuthorization(t *testing.T) {
	p := start(t)
	ann, bob := p.login(t, loginBody), p.login(t, `{"sub":"bob"}`)
	for _, request := range []string{"GET /me", "POST /logout"} {
		for _, second := range []string{"Bearer " + bob.AuthToken, "Bearer " + ann.AuthToken, "Basic YTpi", ""} {
			a := p.send(t, []string{request + " HTTP/1.1", "Authorization: Bearer " + ann.AuthToken, "Authorization: " + second}, "")
			require.Equal(t, http.StatusUnauthorized, a.status, request)
			require.NotContains(t, a.body, "ann@example.com")
		}
	}
	p.renewed(t, ann.RefreshToken)
	p.renewed(t, bob.RefreshToken)
}

// TestUnauthorized shows that nothing but an auth token opens the resource, and
// nothing but a token of the app's ends a session.
func TestUnauthorized(t *testing.T) {
	p, other := start(t), start(t)
	b := p.login(t, loginBody)
	headers := map[string]string{
		"none":           "",
		"no scheme":      b.AuthToken,
		"another scheme": "Basic " + b.AuthToken,
		"no token":       "Bearer",
		"empty token":    "Bearer ",
		"nonsense":       "Bearer nonsense",
		"app key":        "Bearer " + p.appKey,
		"another key's":  "Bearer " + other.login(t, loginBody).AuthToken,
		"forged":         "Bearer " + b.AuthToken[:len(b.AuthToken)-8] + "AAAAAAAA",
	}
	requireUnauthorized := func(t *testing.T, a response) {
		t.Helper()
		require.Equal(t, http.StatusUnauthorized, a.status)
		require.Regexp(t, `^Bearer realm="demo"`, a.header.Get("WWW-Authenticate"))
		require.JSONEq(t, `{"message":"invalid auth token"}`, a.body)
	}
	for name, header := range headers {
		t.Run(name, func(t *testing.T) {
			requireUnauthorized(t, p.call(t, http.MethodGet, "/me", header, ""))
			requireUnauthorized(t, p.call(t, http.MethodPost, "/logout", header, ""))
		})
	}
	requireUnauthorized(t, p.call(t, http.MethodGet, "/me", "Bearer "+b.RefreshToken, ""))
	p.renewed(t, b.RefreshToken) // none of them has ended the session
}

// TestLifetimes shows that tokens and sessions live as long as the flags say.
func TestLifetimes(t *testing.T) {
	p := start(t, "-auth-ttl", "2m", "-refresh-ttl", "5m", "-refresh-not-before", "1m", "-session-ttl", "4m")
	b := p.login(t, loginBody)
	nbf, exp := lifetimes(t, b.AuthToken)
	require.Equal(t, []int64{0, 120}, []int64{nbf, exp})
	nbf, exp = lifetimes(t, b.RefreshToken)
	require.Equal(t, []int64{60, 240}, []int64{nbf, exp}, "the session's end comes before the token's")
	requireRejected(t, p.renew(t, b.RefreshToken)) // too early
}

// TestApp shows that the app is the one that the flags say.
func TestApp(t *testing.T) {
	p := start(t, "-app-id", "shop", "-app-key", "a-secret-of-mine")
	require.Equal(t, "shop", p.appID)
	require.Equal(t, "a-secret-of-mine", p.appKey)
	b := p.renewed(t, p.login(t, loginBody).RefreshToken)
	require.Equal(t, `"shop"`, string(segment(t, b.AuthToken, 1)["iss"]))
}

// TestRetryWindow shows that a used token gets the same response inside it.
func TestRetryWindow(t *testing.T) {
	p := start(t, "-retry-window", "1h")
	require.Contains(t, p.commands, "Renew. Paste it again within 1h0m0s, and the response is the same pair")
	b := p.login(t, loginBody)
	first, again := p.renewed(t, b.RefreshToken), p.renewed(t, b.RefreshToken)
	require.Equal(t, segment(t, first.AuthToken, 1), segment(t, again.AuthToken, 1))
}

// TestAlgorithms shows that each signs and verifies.
func TestAlgorithms(t *testing.T) {
	for _, alg := range algorithms {
		t.Run(string(alg), func(t *testing.T) {
			p := start(t, "-alg", string(alg))
			b := p.renewed(t, p.login(t, loginBody).RefreshToken)
			require.Equal(t, fmt.Sprintf("%q", alg), string(segment(t, b.AuthToken, 0)["alg"]))
			a := p.call(t, http.MethodGet, "/me", "Bearer "+b.AuthToken, "")
			require.Equal(t, http.StatusOK, a.status, a.body)
		})
	}
}

// TestLog shows that the log tells what happened, and holds no secret.
func TestLog(t *testing.T) {
	p := start(t)
	b := p.login(t, loginBody)
	next := p.renewed(t, b.RefreshToken)
	secrets := []string{p.appKey, b.AuthToken, b.RefreshToken, next.AuthToken, next.RefreshToken}
	requireRejected(t, p.renew(t, b.RefreshToken))
	p.call(t, http.MethodGet, "/me", "Bearer "+next.RefreshToken, "")
	p.call(t, http.MethodGet, "/me?token="+next.AuthToken, "", "")
	p.call(t, http.MethodPost, "/app/"+p.appKey+"/renew", p.appKey, "")
	p.call(t, http.MethodPost, "/logout", "Bearer "+next.AuthToken, "")
	require.NoError(t, p.Process.Signal(os.Interrupt))
	require.NoError(t, p.exited())

	for _, record := range []string{
		`level=INFO msg=serving addr=` + strings.TrimPrefix(p.url, "http://"),
		`level=INFO msg=issued app=demo`,
		`level=INFO msg=renewed app=demo`,
		`level=INFO msg=rejected app=demo`,
		`level=INFO msg=revoked app=demo`,
		`level=INFO msg="request rejected" app=demo reason=wrong_type error="invalid auth token: wrong_type"`,
		`level=INFO msg="shutting down"`,
	} {
		require.Contains(t, p.log.String(), record)
	}
	for _, secret := range secrets {
		require.NotContains(t, p.log.String(), secret)
	}
}

// TestShutdown shows that after a signal the server completes the request that is
// under way and succeeds.
func TestShutdown(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(sig.String(), func(t *testing.T) {
			p := start(t)
			conn, reader := p.beginLogin(t)
			require.NoError(t, p.Process.Signal(sig))
			p.log.waitFor(t, "shutting down")

			_, err := conn.Write([]byte(loginBody))
			require.NoError(t, err)
			resp, err := http.ReadResponse(reader, nil)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusOK, resp.StatusCode)
			require.NoError(t, p.exited(), "the exit status is 0")
		})
	}
}

// TestSecondSignal shows that a second signal ends the server immediately.
func TestSecondSignal(t *testing.T) {
	p := start(t)
	p.beginLogin(t)
	require.NoError(t, p.Process.Signal(os.Interrupt))
	p.log.waitFor(t, "shutting down")
	ended := make(chan error, 1)
	go func() { ended <- p.exited() }()
	for { // until the first signal's handling is over, another changes nothing
		select {
		case err := <-ended:
			require.ErrorContains(t, err, "signal: interrupt")
			return
		case <-time.After(time.Millisecond):
			_ = p.Process.Signal(os.Interrupt) // it may have ended
		}
	}
}

// beginLogin sends the head of a login, and returns when the server waits for
// its body.
func (p *process) beginLogin(t *testing.T) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	_, err = fmt.Fprintf(conn, "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(loginBody))
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusContinue, resp.StatusCode)
	return conn, reader
}
