package dbtest

import (
	"cmp"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"strings"
)

// target is where a server is reached.
type target struct {
	network, address string // for a proxy to dial
	admin            string // a database that is always there, or empty for none
	// dsn is the data source name of a database, through another TCP address if
	// through is not empty.
	dsn func(through, database string) string
}

var errForm = errors.New("wrong form") // without the text, which may hold a password

// parseURL reads the data source name of a running PostgreSQL server.
func parseURL(dsn string) (target, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return target{}, errForm
	}
	if strings.Contains(u.Host, ",") || strings.Contains(u.Query().Get("host"), ",") {
		return target{}, errForm // several servers
	}
	return urlTarget(*u, u.Query()), nil
}

// urlTarget takes the server from the query, where a Unix socket is named, or
// from the URL.
func urlTarget(u url.URL, query url.Values) target {
	host := cmp.Or(query.Get("host"), u.Hostname(), "localhost")
	port := cmp.Or(query.Get("port"), u.Port(), "5432")
	t := target{network: "tcp", address: net.JoinHostPort(host, port), admin: cmp.Or(strings.Trim(u.Path, "/"), "postgres")}
	if strings.HasPrefix(host, "/") {
		t.network, t.address = "unix", filepath.Join(host, ".s.PGSQL."+port)
	}
	t.dsn = func(through, database string) string {
		u, to := u, url.Values{}
		for name, values := range query {
			to[name] = values
		}
		if through != "" {
			u.Host = through
			to.Del("host")
			to.Del("port")
		}
		u.Path, u.RawQuery = "/"+database, to.Encode()
		return u.String()
	}
	return t
}

// parseMySQL reads the data source name of a running MySQL or MariaDB server, in
// the form of go-sql-driver/mysql: user:password@network(address)/database?options.
func parseMySQL(dsn string) (target, error) {
	// As the driver does: a password may hold all of these but the last slash.
	slash := strings.LastIndex(dsn, "/")
	if slash < 0 {
		return target{}, errForm
	}
	server, options := dsn[:slash], ""
	if question := strings.Index(dsn[slash:], "?"); question >= 0 {
		options = dsn[slash+question:]
	}
	at := strings.LastIndex(server, "@")
	user, server := server[:at+1], server[at+1:]
	network, rest, hasAddress := strings.Cut(server, "(")
	address, closed := strings.CutSuffix(rest, ")")
	if hasAddress != closed {
		return target{}, errForm
	}
	network = cmp.Or(network, "tcp")
	switch {
	case network == "unix":
		address = cmp.Or(address, "/tmp/mysql.sock")
	case network != "tcp":
		return target{}, errForm
	case address == "":
		address = "127.0.0.1:3306"
	default:
		if _, _, err := net.SplitHostPort(address); err != nil {
			address = net.JoinHostPort(strings.Trim(address, "[]"), "3306")
		}
	}
	return mySQLTarget(user, network, address, options), nil
}

func mySQLTarget(user, network, address, options string) target {
	return target{network: network, address: address, dsn: func(through, database string) string {
		if through != "" {
			return user + "tcp(" + through + ")/" + database + options
		}
		return user + network + "(" + address + ")/" + database + options
	}}
}
