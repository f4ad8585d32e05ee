package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
)

// Dialect is the kind of database.
type Dialect string

// The dialects.
const (
	PostgreSQL Dialect = "postgresql"
	MySQL      Dialect = "mysql" // and MariaDB
	SQLite     Dialect = "sqlite"
)

// dialect is everything that differs between databases.
type dialect struct {
	name Dialect

	// How statements are written: see render.
	placeholder  func(n int) string
	least        string // the smaller of two values
	insertSuffix string // has an INSERT of a taken ID insert no row, instead of an error, which would fill the database's log
	bySubject    string // has a read use the index of subjects
	count        string // what a write sets in addition: the column writes in the schema

	// singleWriter: the database lets one transaction write at a time. Writers of
	// this process take turns: in the database they would sleep and try again.
	singleWriter bool

	// check returns an error for what would fail later, or silently keep
	// something else than what was stored. What it finds out goes into the
	// runner.
	check func(ctx context.Context, c *checker) error

	// Migrate.
	migrateExclusively func(ctx context.Context, db *sql.DB, lockName string, f func(execer) error) error
	columnExists       string // asks for a column, where ADD COLUMN has no IF NOT EXISTS

	code  func(error) string // what the database calls the error; empty: it is not the database's
	codes map[string]class
	// broken reports whether a code that is not in codes is of a broken connection.
	broken func(code string) bool
}

// dialects is the one place where databases differ.
var dialects = map[Dialect]*dialect{
	PostgreSQL: {
		name:               PostgreSQL,
		placeholder:        func(n int) string { return "$" + strconv.Itoa(n) },
		least:              "LEAST",
		insertSuffix:       " ON CONFLICT DO NOTHING",
		check:              checkPostgreSQL,
		migrateExclusively: exclusivelyPostgreSQL,
		code:               sqlState,
		codes: map[string]class{
			"23505": duplicate, // unique violation
			"40001": undone,    // serialization failure
			"40P01": undone,    // deadlock
			"57P01": broken,    // the server shuts down
			"57P02": broken,    // crashed
			"57P03": broken,    // starts
			"57P05": broken,    // the connection was idle for too long
			"25P03": broken,    // the same, in a transaction
			"25006": unfit,     // read-only
			"25P02": unfit,     // the connection was left in a transaction that has failed
			"0A000": stale,     // a prepared statement returns other types than it did
			"26000": stale,     // a prepared statement is not there
			"08P01": stale,     // the same, from a pooler
			"42P05": stale,     // a prepared statement is there already
		},
		broken: func(code string) bool { return strings.HasPrefix(code, "08") }, // connection exception
	},
	MySQL: {
		name:        MySQL,
		placeholder: func(int) string { return "?" },
		least:       "LEAST",
		// Its INSERT IGNORE would also cut what is too long.
		insertSuffix: "",
		// Where many of an app's sessions are one subject's, it reads all of the app's.
		bySubject:          " FORCE INDEX ({prefix}sessions_by_subject)",
		count:              ", writes = writes + 1",
		check:              checkMySQL,
		migrateExclusively: exclusivelyMySQL,
		columnExists:       "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? AND column_name = ?",
		code:               mysqlNumber,
		codes: map[string]class{
			"1062": duplicate,
			"1213": undone, // deadlock; on a cluster, certification failure
			"1020": undone, // MariaDB: the row has changed since the snapshot
			"3101": undone, // MySQL: group replication has rolled it back
			"1053": broken, // the server shuts down
			"1927": broken, // MariaDB: the connection was killed
			"4031": broken, // MySQL: the connection was idle for too long
			"1290": unfit,  // an option such as --read-only
			"1792": unfit,  // a read-only transaction
			"1836": unfit,  // read-only mode
			"1874": unfit,  // InnoDB is read-only
			"1223": unfit,  // the connection holds a read lock
			"1047": unfit,  // Galera: the node is not part of the cluster
			"1243": stale,  // a prepared statement is not there
			"1615": stale,  // a prepared statement needs to be prepared again
		},
		broken: func(string) bool { return false },
	},
	SQLite: {
		name:               SQLite,
		placeholder:        func(int) string { return "?" },
		least:              "MIN",
		insertSuffix:       " ON CONFLICT DO NOTHING",
		count:              ", writes = writes + 1",
		singleWriter:       true,
		check:              checkSQLite,
		migrateExclusively: exclusivelySQLite,
		columnExists:       "SELECT COUNT(*) FROM pragma_table_info(?) WHERE name = ?",
		code:               sqliteCode,
		codes: map[string]class{
			sqlitePrimaryKey: duplicate,
			sqliteUnique:     duplicate,
			sqliteBusy:       undone, // another process writes
			sqliteLocked:     undone, // another connection of a shared cache writes
			sqliteProtocol:   undone, // another process opens the log
			sqliteSchema:     undone, // the tables have changed again and again
			sqliteReadOnly:   unfit,
		},
		broken: func(string) bool { return false },
	},
}

func findDialect(name Dialect) (*dialect, error) {
	d := dialects[name]
	if d == nil {
		return nil, fmt.Errorf("the dialect is %q, but must be PostgreSQL, MySQL or SQLite", name)
	}
	return d, nil
}

// render returns a statement as the dialect writes it, on tables with this prefix.
// Statements have ? for every argument, {name} for a table, {least} for the
// smaller of two values, {list} for the limit of a list, {by_subject} behind the table
// where the index of subjects is to be used, and {count} behind the columns that a
// write sets.
func (d *dialect) render(statement, prefix string) string {
	statement = strings.NewReplacer(
		"{sessions}", prefix+"sessions",
		"{apps}", prefix+"apps",
		"{signing_keys}", prefix+"signing_keys",
		"{schema}", prefix+"schema",
		"{least}", d.least,
		"{count}", d.count,
		"{by_subject}", strings.ReplaceAll(d.bySubject, "{prefix}", prefix),
		"{list}", strconv.Itoa(MaxSubjectSessions),
	).Replace(statement)
	var b strings.Builder
	for i, part := range strings.Split(statement, "?") {
		if i > 0 {
			b.WriteString(d.placeholder(i))
		}
		b.WriteString(part)
	}
	return b.String()
}
