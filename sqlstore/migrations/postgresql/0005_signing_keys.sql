CREATE TABLE IF NOT EXISTS renew_signing_keys (
    app_id      TEXT COLLATE "C" NOT NULL,
    id          TEXT COLLATE "C" NOT NULL,
    sequence    BIGINT NOT NULL, -- the app's revision when it got the key
    algorithm   TEXT COLLATE "C" NOT NULL,
    public_key  BYTEA NOT NULL,  -- PKIX
    private_key BYTEA,           -- PKCS #8, encrypted; null once the key signs no more
    expires_at  BIGINT,          -- when the last token that it signed has expired; null while it signs
    revoked     SMALLINT NOT NULL,
    PRIMARY KEY (app_id, id)
)
