CREATE TABLE IF NOT EXISTS renew_signing_keys (
    app_id      TEXT NOT NULL,
    id          TEXT NOT NULL,
    sequence    INTEGER NOT NULL, -- the app's revision when it got the key
    algorithm   TEXT NOT NULL,
    public_key  BLOB NOT NULL,    -- PKIX
    private_key BLOB,             -- PKCS #8, encrypted; null once the key signs no more
    expires_at  INTEGER,          -- when the last token that it signed has expired; null while it signs
    revoked     INTEGER NOT NULL,
    PRIMARY KEY (app_id, id)
) STRICT
