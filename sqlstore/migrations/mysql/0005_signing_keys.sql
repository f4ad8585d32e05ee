CREATE TABLE IF NOT EXISTS renew_signing_keys (
    app_id      VARBINARY(255) NOT NULL,
    id          VARBINARY(255) NOT NULL,
    sequence    BIGINT NOT NULL,  -- the app's revision when it got the key
    algorithm   VARBINARY(255) NOT NULL,
    public_key  BLOB NOT NULL,    -- PKIX
    private_key BLOB,             -- PKCS #8, encrypted; null once the key signs no more
    expires_at  BIGINT,           -- when the last token that it signed has expired; null while it signs
    revoked     SMALLINT NOT NULL,
    PRIMARY KEY (app_id, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC
