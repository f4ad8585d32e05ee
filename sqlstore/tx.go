package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jwtrenew/renew"
)

var (
	_ renew.TokenStore   = (*TxTokenStore)(nil)
	_ renew.SubjectStore = (*TxTokenStore)(nil)
)

// TxTokenStore is a [TokenStore] inside a transaction of the caller's. Make one
// with [TokenStore.Tx]. Like the transaction, it is for one goroutine at a time.
type TxTokenStore struct{ sessions }

// Tx returns a store inside a transaction on the store's database, for
// [renew.Renewer.With]: a login is then stored together with the caller's rows, and
// a change of password together with [renew.Renewer.RevokeSubject], or not at all.
//
// Nothing counts before the transaction commits: give no token to a client
// before. Every statement ends with its context; nothing is repeated, and after an
// error roll back. The caller chooses the isolation level, and first locks the row that
// logins and changes of password of one user both need, such as the user's: then a
// login that races a change of password is either before it, and revoked, or after
// it, and sees the new password.
//
// A renewal does not belong there. Rotate returns an error that wraps
// [errors.ErrUnsupported].
func (s *TokenStore) Tx(tx *sql.Tx) *TxTokenStore {
	inside := s.sessions
	inside.on = txRunner{s.run, tx}
	return &TxTokenStore{inside}
}

// Rotate returns an error that wraps [errors.ErrUnsupported]: a rotation that is
// rolled back after its client was given the successor would end the session.
func (s *TxTokenStore) Rotate(context.Context, string, renew.Session) error {
	return fmt.Errorf("sqlstore: rotate session: not inside a transaction: %w", errors.ErrUnsupported)
}

// txRunner runs statements in a transaction.
type txRunner struct {
	*runner
	tx *sql.Tx
}

func (r txRunner) exec(ctx context.Context, _ bool, s *stmt, args ...any) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return execOn(ctx, textOn{r.tx, s.query}, args)
}

func (r txRunner) query(ctx context.Context, s *stmt, scan func(*sql.Rows) error, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return queryOn(ctx, textOn{r.tx, s.query}, scan, args)
}
