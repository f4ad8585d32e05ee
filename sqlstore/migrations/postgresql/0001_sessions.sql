-- One row per session. Times are milliseconds since 1970-01-01 UTC, here and
-- below. IDs are compared byte by byte, whatever the database's collation. The
-- columns of fixed width stand first, so that nothing is padded.
--
-- A renewal changes no column that is in an index, and every page keeps room for
-- new versions of its rows. So the update is heap-only (HOT): it writes no index
-- entry, and the next one on the page clears away what it left behind. That is
-- why no index has expires_at. purge_at stands in for it: the session ends then,
-- or later. Renewals leave it as it is; DeleteExpired brings it up to date when
-- it comes due.
CREATE TABLE IF NOT EXISTS renew_sessions (
    created_at        BIGINT NOT NULL,
    ends_at           BIGINT,
    revoked_at        BIGINT,
    generation        BIGINT NOT NULL,
    issued_at         BIGINT NOT NULL,
    not_before        BIGINT NOT NULL,
    expires_at        BIGINT NOT NULL,
    purge_at          BIGINT NOT NULL,
    app_id            TEXT COLLATE "C" NOT NULL,
    id                TEXT COLLATE "C" NOT NULL,
    subject           TEXT COLLATE "C" NOT NULL,
    token_id          TEXT COLLATE "C" NOT NULL,
    previous_token_id TEXT COLLATE "C" NOT NULL,
    retry_proof       BYTEA,
    ip                TEXT COLLATE "C" NOT NULL,
    user_agent        TEXT COLLATE "C" NOT NULL,
    audience          TEXT COLLATE "C", -- a JSON array of strings
    claims            TEXT COLLATE "C", -- JSON as it was given, which json and jsonb may refuse or change
    PRIMARY KEY (app_id, id)
) WITH (fillfactor = 75)
