package storeurl

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

	"github.com/jwtrenew/renew/keycrypt"
	"github.com/jwtrenew/renew/sqlstore"
)

// database is how sqlstore reaches one.
type database struct {
	dialect sqlstore.Dialect
	driver  string
	dsn     string
	file    string // SQLite's
}

// parseSQL reads what follows the scheme. Its errors do not show it.
func parseSQL(scheme, rest string) (database, error) {
	switch scheme {
	case "sqlite":
		if rest == "" {
			return database{}, errors.New("sqlite: names no file")
		}
		file := (&url.URL{Scheme: "file", Opaque: url.PathEscape(rest), RawQuery: "_pragma=busy_timeout(2000)"}).String()
		return database{sqlstore.SQLite, "sqlite", file, rest}, nil
	case "postgres", "postgresql":
		return database{sqlstore.PostgreSQL, "pgx", withPostgreSQLTimeouts(scheme + ":" + rest), ""}, nil
	default:
		dsn, err := mysqlDSN(strings.TrimPrefix(rest, "//"))
		return database{sqlstore.MySQL, "mysql", withParameters(dsn, mySQLTimeouts), ""}, err
	}
}

// Without timeouts a firewall that has forgotten the connections stops a pool until
// the program is restarted: database/sql opens connections one after the other,
// without a deadline, and waits in the first handshake. pgx ends a statement with
// its context; the MySQL driver needs a limit for each read and write too, above the
// longest wait for a lock.
const (
	postgreSQLTimeouts  = "connect_timeout=5"
	mySQLConnectTimeout = "timeout=5s"
	mySQLTimeouts       = mySQLConnectTimeout + "&readTimeout=5s&writeTimeout=5s&innodb_lock_wait_timeout=2"
)

func withPostgreSQLTimeouts(url string) string {
	_, parameters, _ := strings.Cut(url, "?")
	return url + missing(parameters, postgreSQLTimeouts)
}

// withParameters adds those defaults to a DSN of the MySQL driver that it does not
// set.
func withParameters(dsn, defaults string) string {
	_, parameters, _ := strings.Cut(dsn[strings.LastIndexByte(dsn, '/')+1:], "?") // a password may have a question mark
	return dsn + missing(parameters, defaults)
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

// OpenMySQL opens a MySQL or MariaDB database by a URL that [Open] takes, for what is
// no store, such as the database that another system leaves behind. It connects when
// the database is first used. Errors: [ErrUsage].
func OpenMySQL(url string) (*sql.DB, error) {
	scheme, rest, _ := strings.Cut(url, "://")
	if scheme != "mysql" && scheme != "mariadb" {
		return nil, fmt.Errorf("%w: the URL does not begin with mysql://", ErrUsage)
	}
	dsn, err := mysqlDSN(rest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	db, err := sql.Open("mysql", withParameters(dsn, mySQLConnectTimeout))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	return db, nil
}

func openSQL(ctx context.Context, scheme, rest, encryptionKey string) (*Stores, error) {
	d, err := parseSQL(scheme, rest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	if encryptionKey == "" && d.file != "" {
		if encryptionKey, err = keyFile(d.file + ".key"); err != nil {
			return nil, fmt.Errorf("encryption key: %w", err)
		}
	}
	encrypter, err := encrypter(encryptionKey)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open(d.driver, d.dsn)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	s, err := sqlStores(ctx, db, d.dialect, encrypter)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// sqlStores makes the stores. Closing the database closes all that they have
// prepared on it.
func sqlStores(ctx context.Context, db *sql.DB, dialect sqlstore.Dialect, encrypter keycrypt.Encrypter) (*Stores, error) {
	const connections = 16
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections) // by default all but two are closed and opened again and again
	if err := sqlstore.Migrate(ctx, db, dialect); err != nil {
		return nil, err
	}
	keys, err := sqlstore.NewKeyStore(ctx, db, dialect, encrypter)
	if err != nil {
		return nil, err
	}
	tokens, err := sqlstore.NewTokenStore(ctx, db, dialect)
	if err != nil {
		return nil, err
	}
	return &Stores{Keys: keys, Tokens: tokens, DeleteEvery: often, close: db.Close}, nil
}

// keyFile reads the key, or makes one if there is no file.
func keyFile(name string) (string, error) {
	key := make([]byte, keycrypt.KeyBytes)
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
