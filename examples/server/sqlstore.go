package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/jwtrenew/renew/sqlstore"
)

// encryptionKeyVariable names the environment variable with the key that
// encrypts private keys: a flag would show it to everyone on the machine.
const encryptionKeyVariable = "RENEW_ENCRYPTION_KEY"

// place is a database that the flag -store names.
type place struct {
	dialect sqlstore.Dialect
	driver  string
	dsn     string
	file    string // SQLite's
}

// parsePlace reads sqlite:FILE, postgres://… and mysql://…. Its errors do not
// show the name: it may hold a password.
func parsePlace(name string) (place, error) {
	scheme, rest, _ := strings.Cut(name, ":")
	switch scheme {
	case "sqlite":
		if rest == "" {
			return place{}, errors.New("sqlite: names no file")
		}
		file := (&url.URL{Scheme: "file", Opaque: url.PathEscape(rest), RawQuery: "_pragma=busy_timeout(2000)"}).String()
		return place{sqlstore.SQLite, "sqlite", file, rest}, nil
	case "postgres", "postgresql":
		return place{sqlstore.PostgreSQL, "pgx", withPostgreSQLTimeouts(name), ""}, nil
	case "mysql", "mariadb":
		dsn, err := mysqlDSN(strings.TrimPrefix(rest, "//"))
		return place{sqlstore.MySQL, "mysql", withMySQLTimeouts(dsn), ""}, err
	}
	return place{}, fmt.Errorf("%q is not memory, sqlite:FILE, postgres://… or mysql://…", scheme)
}

// Without timeouts a firewall that has forgotten the connections stops a pool until
// the program is restarted: database/sql opens connections one after the other,
// without a deadline, and waits in the first handshake. pgx ends a statement with
// its context; the MySQL driver needs a limit for each read and write too, above the
// longest wait for a lock.
const (
	postgreSQLTimeouts = "connect_timeout=5"
	mySQLTimeouts      = "timeout=5s&readTimeout=5s&writeTimeout=5s&innodb_lock_wait_timeout=2"
)

func withPostgreSQLTimeouts(url string) string {
	_, parameters, _ := strings.Cut(url, "?")
	return url + missing(parameters, postgreSQLTimeouts)
}

func withMySQLTimeouts(dsn string) string {
	_, parameters, _ := strings.Cut(dsn[strings.LastIndexByte(dsn, '/')+1:], "?") // a password may have a question mark
	return dsn + missing(parameters, mySQLTimeouts)
}

// missing returns what must follow the parameters, so that they have the defaults.
func missing(parameters, defaults string) string {
	var add strings.Builder
	for setting := range strings.SplitSeq(defaults, "&") {
		name, _, _ := strings.Cut(setting, "=")
		if strings.Contains("&"+parameters, "&"+name+"=") {
			continue
		}
		separator := "?"
		if parameters != "" || add.Len() > 0 {
			separator = "&"
		}
		add.WriteString(separator + setting)
	}
	return add.String()
}

// mysqlDSN takes user:password@host:port/database, as in a URL, and what the
// driver calls a DSN, as in user@unix(/run/mysqld.sock)/database.
func mysqlDSN(rest string) (string, error) {
	if strings.Contains(rest, "(") {
		return rest, nil
	}
	u, err := url.Parse("mysql://" + rest)
	if err != nil || u.Host == "" || len(u.Path) < 2 {
		return "", errors.New("mysql:// is not followed by user:password@host:port/database")
	}
	c := mysql.NewConfig()
	c.User = u.User.Username()
	c.Passwd, _ = u.User.Password()
	c.Net, c.Addr = "tcp", u.Host
	if u.Port() == "" {
		c.Addr = net.JoinHostPort(u.Hostname(), "3306")
	}
	c.DBName = u.Path[1:]
	dsn := c.FormatDSN()
	if u.RawQuery != "" {
		separator := "?"
		if strings.Contains(dsn, "?") {
			separator = "&"
		}
		dsn += separator + u.RawQuery
	}
	_, err = mysql.ParseDSN(dsn)
	return dsn, err
}

// openDatabase brings the tables up to date and opens the stores. The database
// outlives the program and may be shared by several.
func openDatabase(ctx context.Context, name string) (stores, error) {
	p, err := parsePlace(name)
	if err != nil {
		return stores{}, fmt.Errorf("%w: -store: %w", errUsage, err)
	}
	key, err := encryptionKey(p)
	if err != nil {
		return stores{}, err
	}
	encrypter, err := sqlstore.NewEncrypter(key)
	if err != nil {
		return stores{}, err
	}
	db, err := sql.Open(p.driver, p.dsn)
	if err != nil {
		return stores{}, fmt.Errorf("%w: -store: %w", errUsage, err)
	}
	s, err := newStores(ctx, db, p.dialect, encrypter)
	if err != nil {
		return stores{}, errors.Join(fmt.Errorf("-store: %w", err), db.Close())
	}
	return s, nil
}

// newStores makes the stores. Closing the database closes all that they have
// prepared on it.
func newStores(ctx context.Context, db *sql.DB, dialect sqlstore.Dialect, encrypter sqlstore.Encrypter) (stores, error) {
	const connections = 16
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections) // by default all but two are closed and opened again and again
	if err := sqlstore.Migrate(ctx, db, dialect); err != nil {
		return stores{}, err
	}
	keys, err := sqlstore.NewKeyStore(ctx, db, dialect, encrypter)
	if err != nil {
		return stores{}, err
	}
	tokens, err := sqlstore.NewTokenStore(ctx, db, dialect)
	return stores{keys: keys, tokens: tokens, close: db.Close}, err
}

// encryptionKey returns the key in the environment. For an SQLite file the key may
// also be in a file beside it: a copy of the database alone has no key that signs.
func encryptionKey(p place) ([]byte, error) {
	text := os.Getenv(encryptionKeyVariable)
	if text == "" && p.file != "" {
		var err error
		if text, err = keyFile(p.file + ".key"); err != nil {
			return nil, fmt.Errorf("-store: encryption key: %w", err)
		}
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != sqlstore.EncryptionKeyBytes {
		return nil, fmt.Errorf("%w: -store: %s must hold 32 random bytes in base64, such as those of: openssl rand -base64 32", errUsage, encryptionKeyVariable)
	}
	return key, nil
}

// keyFile reads the key, or makes one if there is no file.
func keyFile(name string) (string, error) {
	key := make([]byte, sqlstore.EncryptionKeyBytes)
	rand.Read(key)                                                           // never fails
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator names it
	if errors.Is(err, fs.ErrExist) {
		text, err := os.ReadFile(name) //nolint:gosec // as above
		return string(text), err
	}
	if err != nil {
		return "", err
	}
	text := base64.StdEncoding.EncodeToString(key)
	_, err = file.WriteString(text + "\n")
	return text, errors.Join(err, file.Close())
}
