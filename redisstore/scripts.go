package redisstore

import "github.com/redis/go-redis/v9"

// Every command of the stores is a script, reads too. The first line makes Redis
// (7.0 and later) reject a script on a replica, whatever the script does, and on a
// primary that has fewer replicas than min-replicas-to-write: so no read comes from
// a server that has been replaced without knowing it, if that is set.
//
// A server whose memory is full, with maxmemory, rejects scripts with the first
// header. Those with the second one still run: what reads, revokes or deletes.
const (
	header     = "#!lua\n"
	headerFull = "#!lua flags=allow-oom\n"
)

// A session keeps the names of its last writes, each with the second in which it was
// made. A client sends a command again when its reply was lost; the script finds the
// name then and does nothing but write it once more, so that WAIT and the append-only
// file have something to wait for.
//
// A name stays for the time that a client may repeat a command, which the scripts call
// repeats, and at most 16 do. If all 16 are younger than that, the name of a write that
// has happened may be gone. A script that does not find its name then puts "overtaken"
// before its result: of a command that was sent once it is the result, of a repetition
// the outcome is unknown.
const ownWrites = `
local function now() return tonumber(redis.call('TIME')[1]) end
local function own(writes, write)
	return writes and string.find(writes, write .. ':', 1, true) ~= nil
end
local function with(writes, write, repeats)
	local second = now()
	local all = {write .. ':' .. second}
	for name, at in string.gmatch(writes or '', '([^ :]+):(%d+)') do
		if #all < 16 and second - tonumber(at) <= repeats then all[#all + 1] = name .. ':' .. at end
	end
	return table.concat(all, ' ')
end
local function unnamed(writes, repeats, result)
	local second, young = now(), 0
	for at in string.gmatch(writes, ':(%d+)') do
		if second - tonumber(at) <= repeats then young = young + 1 end
	end
	return (young >= 16 and 'overtaken ' or '') .. result
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
	local time = redis.call('TIME')
	local from = math.max(tonumber(ends), time[1] * 1000 + math.floor(time[2] / 1000))
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

// overtaken is what stands before a result if a repetition might not find its name.
const overtaken = "overtaken"

var (
	// KEYS: session.
	readSession = redis.NewScript(headerFull + `return redis.call('HGETALL', KEYS[1])`)

	// KEYS: session, ends. ARGV: write, repeats, member, end, retention, entry, fields
	// and values.
	createSession = redis.NewScript(header + ownWrites + keepUntil + `
local writes = redis.call('HGET', KEYS[1], 'writes')
if writes then
	if not own(writes, ARGV[1]) then return unnamed(writes, tonumber(ARGV[2]), 'exists') end
	redis.call('HSET', KEYS[1], 'writes', writes)
	return 'done'
end
redis.call('HSET', KEYS[1], 'writes', with('', ARGV[1], 0), 'entry', ARGV[6], unpack(ARGV, 7))
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
keep(KEYS[1], ARGV[4], tonumber(ARGV[5]))
return 'done'
`)

	// KEYS: session, ends. ARGV: write, repeats, member, end, retention, entry, from,
	// subject, fields to delete, fields and values. The entry is that of the subject's
	// index if this has been written, and empty if the session's is to stay. The reply to
	// a rotation that happened is "done" and the entry that the session has now.
	//
	// The session is never deleted in between: while its slot is moved to another
	// server, Redis would not let the script create it again.
	rotateSession = redis.NewScript(header + ownWrites + keepUntil + `
local v = redis.call('HMGET', KEYS[1], 'writes', 'token_id', 'revoked_at', 'subject', 'entry')
if not v[1] then return 'missing' end
if own(v[1], ARGV[1]) then
	redis.call('HSET', KEYS[1], 'writes', v[1])
	return 'done ' .. (v[5] or '')
end
if v[3] or v[2] ~= ARGV[7] then return unnamed(v[1], tonumber(ARGV[2]), 'conflict') end
local entry = ARGV[6]
if entry == '' then
	if v[4] ~= ARGV[8] then return 'subject' end
	entry = v[5] or ''
end
redis.call('HSET', KEYS[1], 'writes', with(v[1], ARGV[1], tonumber(ARGV[2])), 'entry', entry, unpack(ARGV, 10))
for field in string.gmatch(ARGV[9], '[^ ]+') do redis.call('HDEL', KEYS[1], field) end
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
keep(KEYS[1], ARGV[4], tonumber(ARGV[5]))
return 'done ' .. entry
`)

	// KEYS: session. ARGV: write, repeats, time, and, if only a session of this subject
	// is meant, the subject.
	revokeSession = redis.NewScript(headerFull + ownWrites + `
local v = redis.call('HMGET', KEYS[1], 'writes', 'revoked_at', 'subject')
if not v[1] or (ARGV[4] and v[3] ~= ARGV[4]) then return 'missing' end
if v[2] then
	redis.call('HSET', KEYS[1], 'revoked_at', v[2])
	if own(v[1], ARGV[1]) then return 'done' end
	return 'already'
end
redis.call('HSET', KEYS[1], 'revoked_at', ARGV[3], 'writes', with(v[1], ARGV[1], tonumber(ARGV[2])))
return 'done'
`)

	// KEYS: ends. ARGV: before, limit.
	listEnded = redis.NewScript(headerFull + `
return redis.call('ZRANGE', KEYS[1], '-inf', '(' .. ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
`)

	// KEYS: ends, deleted, sessions. ARGV: write, repeats, before, members, in the order
	// of the sessions. The reply is app, subject, ID and entry of each session that was
	// deleted. It is kept for as long as the client may repeat the command, and until the
	// next deletion in the shard: "overtaken" comes first if a member is missing, which
	// the first command of a repetition may have deleted, and otherwise "done".
	deleteEnded = redis.NewScript(headerFull + `
local last = redis.call('HMGET', KEYS[2], 'write', 'reply')
if last[1] == ARGV[1] then return cjson.decode(last[2]) end
local deleted, members, sessions = {'done'}, {}, {}
for i = 3, #KEYS do
	local member = ARGV[i + 1]
	local ends = redis.call('ZSCORE', KEYS[1], member)
	if not ends then deleted[1] = 'overtaken' end
	if ends and tonumber(ends) < tonumber(ARGV[3]) then
		members[#members + 1] = member
		local v = redis.call('HMGET', KEYS[i], 'app', 'subject', 'id', 'entry')
		if v[1] then
			sessions[#sessions + 1] = KEYS[i]
			for n = 1, 4 do deleted[#deleted + 1] = v[n] or '' end
		end
	end
end
if #sessions > 0 then
	redis.call('HSET', KEYS[2], 'write', ARGV[1], 'reply', cjson.encode({'done', unpack(deleted, 2)}))
	redis.call('EXPIRE', KEYS[2], ARGV[2])
	redis.call('DEL', unpack(sessions))
end
if #members > 0 then redis.call('ZREM', KEYS[1], unpack(members)) end
return deleted
`)

	// KEYS: subject. ARGV: ID, name. The reply is the entry: the name, and the second
	// in which it was written.
	writeEntry = redis.NewScript(header + `
local entry = ARGV[2] .. ':' .. redis.call('TIME')[1]
redis.call('HSET', KEYS[1], ARGV[1], entry)
return entry
`)

	// KEYS: subject. ARGV: ID, entry. Writes the entry of a session if it is missing.
	repairEntry = redis.NewScript(header + `return redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])`)

	// KEYS: subject. ARGV: cursor, count. The reply is which run of the server this is,
	// the next cursor, then IDs and entries. A cursor is of use in one run only.
	scanEntries = redis.NewScript(headerFull + `
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
table.insert(page[2], 1, string.match(redis.call('INFO', 'server'), 'run_id:(%w+)'))
table.insert(page[2], 2, page[1])
return page[2]
`)

	// KEYS: subject. ARGV: age, IDs and entries. Deletes the entries that are still the
	// same, and that are older than so many seconds.
	deleteEntries = redis.NewScript(headerFull + `
local before, ids, stale = redis.call('TIME')[1] - ARGV[1], {}, {}
for i = 2, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
for n, entry in ipairs(redis.call('HMGET', KEYS[1], unpack(ids))) do
	if entry and entry == ARGV[2 * n + 1] and tonumber(string.match(entry, ':(%d+)$') or 0) < before then
		stale[#stale + 1] = ids[n]
	end
end
if #stale > 0 then redis.call('HDEL', KEYS[1], unpack(stale)) end
return #stale
`)

	// KEYS: app.
	readApp = redis.NewScript(headerFull + `return redis.call('HGET', KEYS[1], 'document')`)

	// KEYS: app. ARGV: document.
	createApp = redis.NewScript(header + `
if redis.call('EXISTS', KEYS[1]) == 1 then return 'exists' end
redis.call('HSET', KEYS[1], 'revision', 1, 'document', ARGV[1])
return 'done'
`)

	// KEYS: app. ARGV: revision that is replaced, the new one, document.
	replaceApp = redis.NewScript(headerFull + `
local revision = redis.call('HGET', KEYS[1], 'revision')
if not revision then return 'missing' end
if revision ~= ARGV[1] then return 'conflict' end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'document', ARGV[3])
return 'done'
`)

	// KEYS: apps. ARGV: ID.
	addAppID = redis.NewScript(header + `return redis.call('SADD', KEYS[1], ARGV[1])`)

	// KEYS: apps.
	listAppIDs = redis.NewScript(headerFull + `return redis.call('SMEMBERS', KEYS[1])`)
)

// scripts are all of them, to load when a store is made.
var scripts = []*redis.Script{
	readSession, createSession, rotateSession, revokeSession, listEnded, deleteEnded,
	writeEntry, repairEntry, scanEntries, deleteEntries, readApp, createApp, replaceApp, addAppID, listAppIDs,
}
