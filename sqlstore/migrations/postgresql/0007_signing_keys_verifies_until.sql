-- verifies_until is the exp of the last token that a replaced key verifies; null
-- while it signs or is only published. expires_at is when the row can be deleted.
ALTER TABLE renew_signing_keys ADD COLUMN IF NOT EXISTS verifies_until BIGINT
