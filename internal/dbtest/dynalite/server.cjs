// dynalite, with what DynamoDB has and dynalite lacks: TransactWriteItems,
// ReturnValuesOnConditionCheckFailure, and the switch for the time to live, which
// deletes nothing here. Every write is dynalite's own code, its conditions and
// updates too; a transaction runs it on copies of the items, with all of them
// locked, and stores the results in one batch. As with DynamoDB, a write does not wait
// for a transaction on its item, and a transaction for no other write: they fail.
//
// node server.cjs HOST PORT FOLDER [plain]
//
// With "plain" a failed condition returns no item, as dynalite has it.
'use strict'

const http = require('node:http')
const { Readable } = require('node:stream')
const crc32 = require('buffer-crc32')
const dynalite = require('dynalite')
const db = require('dynalite/db')
const validations = require('dynalite/validations')

const [host, port, path, mode] = process.argv.slice(2)

let store
const tables = new Map() // by name; see changesTables
const create = db.create
db.create = options => {
  store = create(options)
  const { getTable } = store
  store.getTable = (name, ...rest) => { // dynalite reads it from the disk for every request
    const done = rest.pop()
    const known = tables.get(name)
    if (known) return setImmediate(done, null, known)
    getTable(name, ...rest, (err, table) => {
      if (!err && table.TableStatus == 'ACTIVE') tables.set(name, table)
      done(err, table)
    })
  }
  return store
}
const original = dynalite({ path, createTableMs: 0, deleteTableMs: 0, updateTableMs: 0 }).listeners('request')[0]

const kinds = Object.fromEntries(['Put', 'Update', 'Delete'].map(kind => {
  const name = kind.toLowerCase() + 'Item'
  return [kind, {
    name: kind + 'Item',
    run: require('dynalite/actions/' + name),
    validation: require('dynalite/validations/' + name),
    keyOf: data => kind == 'Put' ? data.Item : data.Key,
  }]
}))

const changesTables = operation => ['CreateTable', 'UpdateTable', 'DeleteTable'].includes(operation)

const api = 'com.amazonaws.dynamodb.v20120810#'
const timeToLive = new Map() // the attribute, by table
const inTransaction = new Set() // of idOf
const idOf = write => write.data.TableName + ' ' + write.key

class Failure extends Error {
  constructor(body) {
    super(body.message)
    this.statusCode = 400
    this.body = body
  }
}

// prepare parses one write as dynalite does.
async function prepare(kind, raw) {
  const returnsItem = raw.ReturnValuesOnConditionCheckFailure == 'ALL_OLD'
  const data = validations.checkTypes(raw, kind.validation.types)
  validations.checkValidations(data, kind.validation.types, kind.validation.custom, store)
  const table = await call(done => store.getTable(data.TableName, done))
  const invalid = kind.name == 'PutItem' ? db.validateItem(data.Item, table) : db.validateKey(data.Key, table)
  if (invalid != null) throw invalid
  return { kind, data, returnsItem, key: db.createKey(kind.keyOf(data), table) }
}

const call = f => new Promise((resolve, reject) => f((err, value) => err ? reject(err) : resolve(value)))

// attempt runs one write on a copy of its item, and returns what it would store.
async function attempt(write, items) {
  write.old = await call(done => items.get(write.key, done)).catch(err => {
    if (err.name == 'NotFoundError') return undefined
    throw err
  })
  const overlay = {
    lock: (_, f) => f(done => done),
    get: (_, done) => write.old === undefined ? done(Object.assign(new Error('not found'), { name: 'NotFoundError' })) : done(null, structuredClone(write.old)),
    put: (key, value, done) => { write.operation = { type: 'put', key, value }; done() },
    del: (key, done) => { write.operation = { type: 'del', key }; done() },
  }
  const view = { ...store, getItemDb: () => overlay }
  try {
    write.result = await call(done => write.kind.run(view, write.data, done))
  } catch (err) {
    if (!err.statusCode) throw err
    write.failure = err
  }
}

const failedCondition = write => write.failure?.body.__type == api + 'ConditionalCheckFailedException'

// together runs writes of one table with all their items locked.
async function together(writes, finish) {
  const items = store.getItemDb(writes[0].data.TableName)
  const release = await new Promise(resolve => items.lock(writes.map(w => w.key), resolve))
  try {
    for (const write of writes) await attempt(write, items)
    finish(writes)
    await call(done => items.batch(writes.map(w => w.operation), done))
  } finally {
    release(() => {})()
  }
}

async function single(kind, raw) {
  const write = await prepare(kind, raw)
  if (inTransaction.has(idOf(write))) {
    throw new Failure({ __type: api + 'TransactionConflictException', message: 'Transaction is ongoing for the item' })
  }
  await together([write], () => {
    if (!write.failure) return
    if (failedCondition(write) && write.returnsItem && write.old) write.failure.body.Item = write.old
    throw write.failure
  })
  return write.result
}

async function transact({ TransactItems: list }) {
  const writes = []
  for (const entry of list) {
    const [name] = Object.keys(entry)
    if (!kinds[name]) throw new Failure({ __type: 'com.amazon.coral.validate#ValidationException', message: 'unknown kind of write: ' + name })
    writes.push(await prepare(kinds[name], entry[name]))
  }
  if (new Set(writes.map(w => w.key)).size < writes.length || new Set(writes.map(w => w.data.TableName)).size > 1) {
    throw new Failure({
      __type: 'com.amazon.coral.validate#ValidationException',
      message: 'Transaction request cannot include multiple operations on one item',
    })
  }
  const { lock } = store.getItemDb(writes[0].data.TableName)
  const conflicts = writes.map(w => lock.isLocked(w.key))
  if (conflicts.includes(true)) {
    cancel(conflicts.map(c => c ? { Code: 'TransactionConflict', Message: 'Transaction is ongoing for the item' } : { Code: 'None' }))
  }
  for (const w of writes) inTransaction.add(idOf(w))
  try {
    await together(writes, () => {
      if (writes.some(w => w.failure)) cancel(reasonsOf(writes))
    })
  } finally {
    for (const w of writes) inTransaction.delete(idOf(w))
  }
  return {}
}

const reasonsOf = writes => writes.map(w => {
  if (!w.failure) return { Code: 'None' }
  if (!failedCondition(w)) return { Code: 'ValidationError', Message: w.failure.body.message }
  const reason = { Code: 'ConditionalCheckFailed', Message: w.failure.body.message }
  if (w.returnsItem && w.old && mode != 'plain') reason.Item = w.old
  return reason
})

function cancel(reasons) {
  throw new Failure({
    __type: api + 'TransactionCanceledException',
    Message: `Transaction cancelled, please refer cancellation reasons for specific reasons [${reasons.map(r => r.Code).join(', ')}]`,
    CancellationReasons: reasons,
  })
}

const added = {
  TransactWriteItems: transact,
  async UpdateTimeToLive({ TableName, TimeToLiveSpecification: spec }) {
    await call(done => store.getTable(TableName, done))
    if (spec.Enabled) timeToLive.set(TableName, spec.AttributeName)
    else timeToLive.delete(TableName)
    return { TimeToLiveSpecification: spec }
  },
  async DescribeTimeToLive({ TableName }) {
    await call(done => store.getTable(TableName, false, done))
    const AttributeName = timeToLive.get(TableName)
    return { TimeToLiveDescription: AttributeName ? { TimeToLiveStatus: 'ENABLED', AttributeName } : { TimeToLiveStatus: 'DISABLED' } }
  },
}
if (mode != 'plain') for (const kind of Object.values(kinds)) added[kind.name] = raw => single(kind, raw)
else delete added.UpdateTimeToLive

http.createServer(async (req, res) => {
  const chunks = []
  try {
    for await (const chunk of req) chunks.push(chunk)
  } catch {
    return // the client has gone
  }
  const body = Buffer.concat(chunks)
  const operation = (req.headers['x-amz-target'] || '').split('.')[1]
  if (changesTables(operation)) {
    tables.clear()
    res.on('finish', () => tables.clear())
  }
  const f = added[operation]
  if (!f) {
    const { headers, method, url } = req
    return original(Object.assign(Readable.from([body]), { headers, method, url }), res)
  }
  let status = 200
  const reply = await f(JSON.parse(body)).catch(err => {
    if (!err.statusCode) throw err
    status = err.statusCode
    return err.body
  })
  const text = JSON.stringify(reply)
  res.writeHead(status, { 'Content-Type': 'application/x-amz-json-1.0', 'x-amz-crc32': crc32.unsigned(text) }).end(text)
}).listen(Number(port), host)
