package dbtest

import (
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

var postgreSQL = &kind{
	name:     "PostgreSQL",
	driver:   "pgx",
	install:  "apt-get install postgresql",
	users:    []string{"postgres", "nobody"},
	variable: PostgreSQLVariable,
	drop:     "DROP DATABASE %s WITH (FORCE)", // some of a pool's connections may not have ended yet
	private: func(dir string) target {
		return urlTarget(url.URL{Scheme: "postgres", User: url.User("postgres")},
			url.Values{"host": {dir}, "port": {"5432"}, "sslmode": {"disable"}})
	},
	parse: parseURL,
	find: func(dir string) (initialize, serve *exec.Cmd, err error) {
		bin, err := findBinary("postgres", "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin")
		if err != nil {
			return nil, nil, err
		}
		data := filepath.Join(dir, "data")
		initialize = command(filepath.Join(filepath.Dir(bin), "initdb"), "-D", data, "-U", "postgres",
			"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
		// A locale whose order is not that of bytes shows where an order was
		// left to the database.
		if help, _ := command(initialize.Path, "--help").Output(); strings.Contains(string(help), "--icu-locale") {
			initialize.Args = append(initialize.Args, "--locale-provider=icu", "--icu-locale=en-US")
		}
		serve = command(bin, "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "max_connections=200")
		return initialize, serve, nil
	},
}

var mariaDB = &kind{
	name:     "MariaDB",
	driver:   "mysql",
	install:  "apt-get install mariadb-server",
	users:    []string{"mysql", "nobody"},
	variable: MySQLVariable,
	drop:     "DROP DATABASE %s",
	private: func(dir string) target {
		return mySQLTarget("root@", "unix", filepath.Join(dir, "socket"), "")
	},
	parse: parseMySQL,
	find: func(dir string) (initialize, serve *exec.Cmd, err error) {
		installer, err := findBinary("mariadb-install-db", "/usr/bin", "/opt/homebrew/bin", "/usr/local/bin")
		if err != nil {
			return nil, nil, err
		}
		bin, err := findBinary("mariadbd", "/usr/sbin", "/usr/libexec", "/opt/homebrew/bin", "/usr/local/bin")
		if err != nil {
			return nil, nil, err
		}
		data := "--datadir=" + filepath.Join(dir, "data")
		initialize = command(installer, "--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db")
		serve = command(bin, "--no-defaults", data, "--socket="+filepath.Join(dir, "socket"), "--skip-networking",
			"--pid-file="+filepath.Join(dir, "pid"), "--tmpdir="+dir, "--innodb-buffer-pool-size=128M", "--max-connections=200",
			// Without the binary log InnoDB shows a commit to others before it is
			// on the disk, and a crash in between takes back what was seen.
			"--log-bin="+filepath.Join(dir, "data", "binlog"), "--sync-binlog=1", "--server-id=1")
		return initialize, serve, nil
	},
}

// command runs what findBinary has found.
func command(path string, args ...string) *exec.Cmd {
	return exec.Command(path, args...) //nolint:gosec,noctx // the installed server, which a test ends by itself
}

// findBinary looks in PATH, then in the folders that match the patterns, the
// greatest name first.
func findBinary(name string, patterns ...string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return filepath.EvalSymlinks(path)
	}
	var found []string
	for _, pattern := range patterns {
		matches, err := filepath.Glob(filepath.Join(pattern, name))
		if err != nil {
			return "", err
		}
		found = append(found, matches...)
	}
	if len(found) == 0 {
		return "", fmt.Errorf("no %s", name)
	}
	return slices.Max(found), nil
}
