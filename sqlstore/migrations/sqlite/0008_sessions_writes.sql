-- Every rotation and revocation raises writes, so that one which changes nothing
-- else is written, too: SQLite leaves a row alone that stays the same.
ALTER TABLE renew_sessions ADD COLUMN writes INTEGER NOT NULL DEFAULT 0
