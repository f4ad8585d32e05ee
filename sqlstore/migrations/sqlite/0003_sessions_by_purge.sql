CREATE INDEX IF NOT EXISTS renew_sessions_by_purge ON renew_sessions (purge_at)
