-- Which of these files have been applied. Every file is one statement, and may
-- be applied again without harm.
CREATE TABLE IF NOT EXISTS renew_schema (
    version    INTEGER NOT NULL PRIMARY KEY,
    applied_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE = InnoDB
