package sqlstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
)

// startTimeout bounds the checks of a constructor, whose context may have no end.
const startTimeout = 30 * time.Second

// checker looks for what would fail later.
type checker struct {
	*runner
	tables bool // the tables should be there: not in Migrate
}

// start checks the database and prepares the statements.
func (r *runner) start(ctx context.Context, prepare func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := r.check(bounded, &checker{r, true})
	if err == nil {
		err = prepare(bounded)
	}
	if err == nil {
		err = r.probe(bounded)
	}
	err = r.poolerError(err)
	var network net.Error
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) && (bounded.Err() != nil || errors.Is(err, context.DeadlineExceeded) || r.code(err) == "" && errors.As(err, &network)) {
		return fmt.Errorf("%w (the data source name should have a connect timeout, and where the driver has them read and write timeouts: "+
			"without them a pool does not recover from a network that drops packets)", err)
	}
	return err
}

// probe stores a session and an app in a transaction that it rolls back, reads the
// session, and stores it again. So it finds out a database that cannot be written
// to, a connection that changes text, and a driver whose errors are not
// recognized: without them a taken ID is not found out.
func (r *runner) probe(ctx context.Context) error {
	session := probeSession()
	row, err := newRow(session)
	if err != nil {
		return err
	}
	args := append(row.args(), row.endsAt())
	err = r.transaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
		insert := r.render(insertSession, true).query
		if _, err := tx.ExecContext(ctx, insert, args...); err != nil {
			if r.classify(err) == unfit {
				return fmt.Errorf("the database is read-only here, a standby or a replica for example; give the stores the primary: %w", err)
			}
			return fmt.Errorf("store a session on trial: %w", err)
		}
		read, err := readOn(ctx, textOn{tx, r.render(readSession, false).query}, session.AppID, session.ID)
		if err != nil {
			return fmt.Errorf("read a session on trial: %w", err)
		}
		if !reflect.DeepEqual(read, session) {
			return errors.New("the database returns another text than was stored: look at the character sets of the connection, and at how its mode reads strings")
		}
		_, err = tx.ExecContext(ctx, insert, args...)
		if class := r.classify(err); class != duplicate && class != undone {
			return fmt.Errorf("the error of a taken ID is not recognized (%T: %w): this package knows lib/pq, jackc/pgx, go-sql-driver/mysql, modernc.org/sqlite, mattn/go-sqlite3 and ncruces/go-sqlite3", err, errOrNil(err))
		}
		return errProbed
	})
	if errors.Is(err, errProbed) {
		return nil
	}
	return err
}

func readOn(ctx context.Context, on querier, appID, sessionID string) (renew.Session, error) {
	var r row
	if err := queryOn(ctx, on, scanOne(r.dest), []any{appID, sessionID}); err != nil {
		return renew.Session{}, err
	}
	return r.session()
}

// errProbed ends the transaction of a probe that found nothing.
var errProbed = errors.New("probed")

func errOrNil(err error) error {
	if err == nil {
		return errors.New("there was none")
	}
	return err
}

// probeSession has in it what a setting may change, and is as long as a Renewer's
// longest.
func probeSession() renew.Session {
	const claims, userAgent = 16 << 10, 1 << 10
	var bytes256 [256]byte
	for i := range bytes256 {
		bytes256[i] = byte(i)
	}
	at := time.UnixMilli(1).UTC()
	return renew.Session{
		AppID:              "probe \\ ' \" ` % _ ? $1 é 😀 ",
		ID:                 rand.Text(),
		Claims:             []byte(`{"a":"\\ ' é \u0000` + strings.Repeat("x", claims) + `"}`),
		CreatedAt:          at,
		IssuedAt:           at,
		RefreshNotBefore:   at,
		RefreshExpiresAt:   at,
		IdempotencyKeyHash: bytes.Clone(bytes256[:255]),
		UserAgent:          strings.Repeat("x", userAgent),
	}
}

// settings reads one row of settings, by their names.
func (c *checker) settings(ctx context.Context, query string) (map[string]string, error) {
	settings := map[string]string{}
	err := c.query(ctx, &stmt{query: query}, func(rows *sql.Rows) error {
		for rows.Next() {
			var name string
			var value sql.NullString
			if err := rows.Scan(&name, &value); err != nil {
				return err
			}
			settings[strings.ToLower(name)] = value.String
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read the settings of the connection: %w", err)
	}
	return settings, nil
}

// poolerError says what to do about a prepared statement that is not there, or is
// there already.
func (r *runner) poolerError(err error) error {
	if r.classify(err) != stale {
		return err
	}
	return fmt.Errorf("a pooler cannot keep prepared statements: use PgBouncer's session mode, or version 1.21 with max_prepared_statements above zero, "+
		"or WithoutPreparedStatements with the driver's setting: %w", err)
}
