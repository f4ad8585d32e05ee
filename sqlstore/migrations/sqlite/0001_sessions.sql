-- One row per session. Times are milliseconds since 1970-01-01 UTC, here and
-- below. Text is compared byte by byte, as is SQLite's default. The table keeps
-- its row IDs: WITHOUT ROWID is for rows of a few dozen bytes, and these have
-- hundreds.
--
-- A renewal changes no column that is in an index, so that it writes one page.
-- That is why no index has expires_at. purge_at stands in for it: the session
-- ends then, or later. Renewals leave it as it is; DeleteExpired brings it up to
-- date when it comes due.
CREATE TABLE IF NOT EXISTS renew_sessions (
    app_id            TEXT NOT NULL,
    id                TEXT NOT NULL,
    subject           TEXT NOT NULL,
    created_at        INTEGER NOT NULL,
    ends_at           INTEGER,
    revoked_at        INTEGER,
    generation        INTEGER NOT NULL,
    token_id          TEXT NOT NULL,
    previous_token_id TEXT NOT NULL,
    issued_at         INTEGER NOT NULL,
    not_before        INTEGER NOT NULL,
    expires_at        INTEGER NOT NULL,
    purge_at          INTEGER NOT NULL,
    retry_proof       BLOB,
    ip                TEXT NOT NULL,
    user_agent        TEXT NOT NULL,
    audience          TEXT, -- a JSON array of strings
    claims            TEXT, -- JSON as it was given
    PRIMARY KEY (app_id, id)
) STRICT
