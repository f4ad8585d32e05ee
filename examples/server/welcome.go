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
                                member becomes a custom claim. No password is
                                asked for: it answers with a pair of tokens.
  GET  /me                      Authorization: Bearer <auth token>
  POST /logout                  Authorization: Bearer <auth token>; ends the session
  POST /app/{app_id}/renew      Authorization: <app key>
  GET  /app/{app_id}/jwks.json  the keys that verify auth tokens

`

// commands are for a shell with curl and sed.
const commands = `url=%[1]s
app_id=%[2]s
app_key=%[3]s

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
    --header 'Authorization: %[3]s' \
    --header 'content-type: application/json' \
    --data '{"refresh_token":"'"$REFRESH_TOKEN"'","ip":"192.0.2.1","useragent":"curl"}'

Log out:

  curl --silent --show-error --request POST \
    --url %[1]s/logout \
    --header "Authorization: Bearer $AUTH_TOKEN"

Ctrl-C stops the server.
`

// welcome prints what a script reads and what a newcomer pastes.
func welcome(out io.Writer, addr net.Addr, c config) error {
	again := "Paste it again, and the spent token is refused"
	if c.retryWindow > 0 {
		again = fmt.Sprintf("Paste it again within %v, and the answer is the same pair", c.retryWindow)
	}
	_, err := fmt.Fprintf(out, commands, baseURL(addr), c.app.ID, c.appKey, again)
	return err
}

// baseURL is where the server is found from this machine.
func baseURL(addr net.Addr) string {
	host := addr.String()
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		host = fmt.Sprintf("localhost:%d", tcp.Port)
	}
	return (&url.URL{Scheme: "http", Host: host}).String()
}
