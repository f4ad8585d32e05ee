-- A JSON array of strings; NULL: none.
ALTER TABLE renew_apps ADD COLUMN former_issuers MEDIUMBLOB NULL
