-- One row per session, stored in the order of the primary key. Times are
-- milliseconds since 1970-01-01 UTC, here and below. Every text is of a binary
-- type: the default collations take upper case for lower case, and a trailing
-- space for none.
--
-- A renewal changes no column that is in a secondary index. That is why no index
-- has expires_at. purge_at stands in for it: the session ends then, or later.
-- Renewals leave it as it is; DeleteExpired brings it up to date when it comes
-- due.
--
-- Every rotation raises writes. The server reports how many rows an update has
-- matched or, by default, how many it has changed; with writes the two are the
-- same.
CREATE TABLE IF NOT EXISTS renew_sessions (
    app_id            VARBINARY(255) NOT NULL,
    id                VARBINARY(255) NOT NULL,
    subject           VARBINARY(255) NOT NULL,
    created_at        BIGINT NOT NULL,
    ends_at           BIGINT,
    revoked_at        BIGINT,
    generation        BIGINT NOT NULL,
    token_id          VARBINARY(255) NOT NULL,
    previous_token_id VARBINARY(255) NOT NULL,
    issued_at         BIGINT NOT NULL,
    not_before        BIGINT NOT NULL,
    expires_at        BIGINT NOT NULL,
    purge_at          BIGINT NOT NULL,
    retry_proof       VARBINARY(255),
    ip                VARBINARY(255) NOT NULL,
    user_agent        BLOB NOT NULL,
    audience          BLOB,       -- a JSON array of strings
    claims            MEDIUMBLOB, -- JSON as it was given
    writes            BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (app_id, id),
    INDEX renew_sessions_by_subject (app_id, subject),
    INDEX renew_sessions_by_purge (purge_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC
