-- signing_key_id names the one active key: there is no other place that could
-- disagree. Whoever changes an app or its keys raises revision first, and so
-- holds the database's write lock until the transaction ends.
CREATE TABLE IF NOT EXISTS renew_apps (
    id                 TEXT NOT NULL PRIMARY KEY,
    issuer             TEXT NOT NULL,
    key_hashes         TEXT NOT NULL,    -- a JSON array of SHA-256 hashes in hexadecimal
    auth_ttl           INTEGER NOT NULL, -- lifetimes are in seconds
    auth_not_before    INTEGER NOT NULL,
    refresh_ttl        INTEGER NOT NULL,
    refresh_not_before INTEGER NOT NULL,
    session_ttl        INTEGER NOT NULL,
    signing_key_id     TEXT,
    longest_ttl        INTEGER NOT NULL, -- of a token that the active key can have signed
    signed_until       INTEGER NOT NULL, -- when the last token of the keys before it has expired
    revision           INTEGER NOT NULL
) STRICT
