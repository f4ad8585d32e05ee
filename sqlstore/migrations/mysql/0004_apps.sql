-- signing_key_id names the one active key: there is no other place that could
-- disagree. Whoever changes an app or its keys raises revision first, and so
-- holds the row until the transaction ends.
CREATE TABLE IF NOT EXISTS renew_apps (
    id                 VARBINARY(255) NOT NULL PRIMARY KEY,
    issuer             VARBINARY(255) NOT NULL,
    key_hashes         MEDIUMBLOB NOT NULL, -- a JSON array of SHA-256 hashes in hexadecimal
    auth_ttl           BIGINT NOT NULL,     -- lifetimes are in seconds
    auth_not_before    BIGINT NOT NULL,
    refresh_ttl        BIGINT NOT NULL,
    refresh_not_before BIGINT NOT NULL,
    session_ttl        BIGINT NOT NULL,
    signing_key_id     VARBINARY(255),
    longest_ttl        BIGINT NOT NULL, -- of a token that the active key can have signed
    signed_until       BIGINT NOT NULL, -- when the last token of the keys before it has expired
    revision           BIGINT NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC
