-- A JSON array of strings; NULL: none.
ALTER TABLE renew_apps ADD COLUMN IF NOT EXISTS former_issuers TEXT COLLATE "C" NULL
