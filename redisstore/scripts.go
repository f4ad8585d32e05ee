package redisstore

import "github.com/redis/go-redis/v9"

// Every command of the stores is a script, reads too. The first line makes Redis
// (7.0 and later) reject a script on a replica, whatever the script does, and on a
// primary that has fewer replicas than min-replicas-to-write: so no read comes from
// a server that has been replaced without knowing it, if that is set.
const header = "#!lua\n"

// A session keeps the names of its last writes. A client sends a command again when
// its reply was lost; the script finds the name then and does nothing but write it
// once more, so that WAIT and the append-only file have something to wait for. A
// write that more than these have overtaken since reports a conflict.
const ownWrites = `
local function own(writes, write)
	for w in string.gmatch(writes or '', '[^ ]+') do
		if w == write then return true end
	end
	return false
end
local function with(writes, write)
	local all = {write}
	for w in string.gmatch(writes or '', '[^ ]+') do
		if #all < 4 then all[#all + 1] = w end
	end
	return table.concat(all, ' ')
end
`

// Counts from the server's clock where the end is in the past: a session that ended
// before it was stored is kept for the time of retention, too.
const keepUntil = `
local function keep(key, ends, retention)
	if retention == 0 then
		redis.call('PERSIST', key)
		return
	end
	local now = redis.call('TIME')
	local from = math.max(tonumber(ends), now[1] * 1000 + math.floor(now[2] / 1000))
	redis.call('PEXPIREAT', key, string.format('%.0f', from + retention))
end
`

// Results of the scripts that write sessions.
const (
	resultDone    = "done"
	resultAlready = "already" // revoked before
	resultExists  = "exists"
	resultMissing = "missing"
	resultOther   = "conflict"
	resultSubject = "subject" // another one, whose index must be written first
)

var (
	// KEYS: session.
	readSession = redis.NewScript(header + `return redis.call('HGETALL', KEYS[1])`)

	// KEYS: session, ends. ARGV: write, member, end, retention, fields and values.
	createSession = redis.NewScript(header + ownWrites + keepUntil + `
local writes = redis.call('HGET', KEYS[1], 'writes')
if writes then
	if not own(writes, ARGV[1]) then return 'exists' end
	redis.call('HSET', KEYS[1], 'writes', writes)
	return 'done'
end
redis.call('HSET', KEYS[1], 'writes', ARGV[1], unpack(ARGV, 5))
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2])
keep(KEYS[1], ARGV[3], tonumber(ARGV[4]))
return 'done'
`)

	// KEYS: session, ends. ARGV: write, member, end, retention, from, subject, whether
	// the subject's index names the session, fields and values.
	rotateSession = redis.NewScript(header + ownWrites + keepUntil + `
local v = redis.call('HMGET', KEYS[1], 'writes', 'token_id', 'revoked_at', 'subject')
if not v[1] then return 'missing' end
if own(v[1], ARGV[1]) then
	redis.call('HSET', KEYS[1], 'writes', v[1])
	return 'done'
end
if v[3] or v[2] ~= ARGV[5] then return 'conflict' end
if ARGV[7] ~= '1' and v[4] ~= ARGV[6] then return 'subject' end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'writes', with(v[1], ARGV[1]), unpack(ARGV, 8))
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2])
keep(KEYS[1], ARGV[3], tonumber(ARGV[4]))
return 'done'
`)

	// KEYS: session. ARGV: write, time, and, if only a session of this subject is
	// meant, the subject.
	revokeSession = redis.NewScript(header + ownWrites + `
local v = redis.call('HMGET', KEYS[1], 'writes', 'revoked_at', 'subject')
if not v[1] or (ARGV[3] and v[3] ~= ARGV[3]) then return 'missing' end
if v[2] then
	redis.call('HSET', KEYS[1], 'revoked_at', v[2])
	if own(v[1], ARGV[1]) then return 'done' end
	return 'already'
end
redis.call('HSET', KEYS[1], 'revoked_at', ARGV[2], 'writes', with(v[1], ARGV[1]))
return 'done'
`)

	// KEYS: ends. ARGV: before, limit.
	listEnded = redis.NewScript(header + `
return redis.call('ZRANGE', KEYS[1], '-inf', '(' .. ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
`)

	// KEYS: ends, sessions. ARGV: before, members, in the order of the sessions.
	// The reply is app, subject and ID of each session that was deleted.
	deleteEnded = redis.NewScript(header + `
local deleted = {}
for i = 2, #KEYS do
	local ends = redis.call('ZSCORE', KEYS[1], ARGV[i])
	if ends and tonumber(ends) < tonumber(ARGV[1]) then
		local v = redis.call('HMGET', KEYS[i], 'app', 'subject', 'id')
		if v[1] then
			redis.call('DEL', KEYS[i])
			for _, text in ipairs(v) do deleted[#deleted + 1] = text end
		end
		redis.call('ZREM', KEYS[1], ARGV[i])
	end
end
return deleted
`)

	// KEYS: subject. ARGV: ID, entry.
	writeEntry = redis.NewScript(header + `return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])`)

	// KEYS: subject. ARGV: IDs. The reply is their entries, '' for none.
	readEntries = redis.NewScript(header + `
local entries = redis.call('HMGET', KEYS[1], unpack(ARGV))
for i = 1, #ARGV do entries[i] = entries[i] or '' end
return entries
`)

	// KEYS: subject. ARGV: cursor, count. The reply is the next cursor, then IDs and
	// entries.
	scanEntries = redis.NewScript(header + `
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
table.insert(page[2], 1, page[1])
return page[2]
`)

	// KEYS: subject. ARGV: IDs and entries. Deletes the entries that are still the
	// same.
	deleteEntries = redis.NewScript(header + `
local n = 0
for i = 1, #ARGV, 2 do
	if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then n = n + redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return n
`)

	// KEYS: app.
	readApp = redis.NewScript(header + `return redis.call('HGET', KEYS[1], 'document')`)

	// KEYS: app. ARGV: document.
	createApp = redis.NewScript(header + `
if redis.call('EXISTS', KEYS[1]) == 1 then return 'exists' end
redis.call('HSET', KEYS[1], 'revision', 1, 'document', ARGV[1])
return 'done'
`)

	// KEYS: app. ARGV: revision that is replaced, the new one, document.
	replaceApp = redis.NewScript(header + `
local revision = redis.call('HGET', KEYS[1], 'revision')
if not revision then return 'missing' end
if revision ~= ARGV[1] then return 'conflict' end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'document', ARGV[3])
return 'done'
`)

	// KEYS: apps. ARGV: ID.
	addAppID = redis.NewScript(header + `return redis.call('SADD', KEYS[1], ARGV[1])`)

	// KEYS: apps.
	listAppIDs = redis.NewScript(header + `return redis.call('SMEMBERS', KEYS[1])`)
)

// scripts are all of them, to load when a store is made.
var scripts = []*redis.Script{
	readSession, createSession, rotateSession, revokeSession, listEnded, deleteEnded,
	writeEntry, readEntries, scanEntries, deleteEntries, readApp, createApp, replaceApp, addAppID, listAppIDs,
}
