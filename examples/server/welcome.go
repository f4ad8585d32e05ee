package main

import (
	"fmt"
	"io"
	"net"
	"net/url"
)

// help stands above the list of flags.
const help = `An API with session renewal built in. When it starts, it prints its URL, the app
ID, the app key, and curl commands that use them; its log goes to stderr.

  POST /login                   {"sub":…,"aud":…,"ip":…,"useragent":…}; any other
                                member becomes a custom claim. It asks for no
                                password and returns a pair of tokens.
  GET  /me                      Authorization: Bearer <auth token>
  POST /logout                  Authorization: Bearer <auth token>; ends the session
  POST /app/{app_id}/renew      Authorization: <app key>
  POST /app/{app_id}/revoke     Authorization: <app key>
  GET  /app/{app_id}/jwks.json  the keys that verify auth tokens

`

// commands are for a shell with curl and sed.
const commands = `url=%[1]s
app_id=%[2]s
app_key=%[3]s
%[5]s
Log in:

  TOKENS=$(curl --silent --show-error \
    --url %[1]s/login \
    --header 'content-type: application/json' \
    --data '{"sub":"ann@example.com","aud":"web-app","ip":"192.0.2.1","useragent":"curl","role":"admin"}')
  AUTH_TOKEN=$(echo "$TOKENS" | sed 's/.*"auth_token":"\([^"]*\)".*/\1/')
  REFRESH_TOKEN=$(echo "$TOKENS" | sed 's/.*"refresh_token":"\([^"]*\)".*/\1/')
  echo "$TOKENS"

Ask for a resource:

  curl --silent --show-error \
    --url %[1]s/me \
    --header "Authorization: Bearer $AUTH_TOKEN"

Renew. %[4]s:

  curl --silent --show-error --write-out '\n' --request POST \
    --url %[1]s/app/%[2]s/renew \
    --header %[6]s \
    --header 'content-type: application/json' \
    --data '{"refresh_token":"'"$REFRESH_TOKEN"'","ip":"192.0.2.1","useragent":"curl"}'

Log out:

  curl --silent --show-error --request POST \
    --url %[1]s/logout \
    --header "Authorization: Bearer $AUTH_TOKEN"

Ctrl-C stops the server.
`

// storedAppKey is for an app whose app key is not known.
const storedAppKey = `
The store has only a hash of the app key, so that it cannot be printed again. Set it
for the commands below. If it is lost, start with -app-key SECRET, which replaces
it, or with -add-app-key SECRET, which keeps it valid for those who have it.

  APP_KEY=…
`

// welcome prints what a script reads and what a newcomer pastes. appKey is empty
// if it is not known.
func welcome(out io.Writer, addr net.Addr, c config, appKey string) error {
	again := "Paste it again, and the used token is rejected"
	if c.retryWindow > 0 {
		again = fmt.Sprintf("Paste it again within %v, and the response is the same pair", c.retryWindow)
	}
	note, header := "", "'Authorization: "+appKey+"'"
	if appKey == "" {
		note, header = storedAppKey, `"Authorization: $APP_KEY"`
	}
	_, err := fmt.Fprintf(out, commands, baseURL(addr), c.app.ID, appKey, again, note, header)
	return err
}

// baseURL returns the server's URL as this machine reaches it.
func baseURL(addr net.Addr) string {
	host := addr.String()
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		host = fmt.Sprintf("localhost:%d", tcp.Port)
	}
	return (&url.URL{Scheme: "http", Host: host}).String()
}
