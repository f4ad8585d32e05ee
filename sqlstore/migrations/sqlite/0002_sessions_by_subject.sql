CREATE INDEX IF NOT EXISTS renew_sessions_by_subject ON renew_sessions (app_id, subject)
