-- Which of these files have been applied. Every file is one statement, and may
-- be applied again without harm.
CREATE TABLE IF NOT EXISTS renew_schema (
    version    INTEGER PRIMARY KEY,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP
)
