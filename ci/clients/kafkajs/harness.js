// How the kafkajs suite runs its cases, and what they share: one line for each case, fresh names, waiting, a load and members of groups.
'use strict'

const { Kafka, Partitioners, logLevel } = require('kafkajs')

const PARTITIONS = 6
const started = Date.now()
let names = 0

const fresh = name => `${name}-${process.pid}-${started}-${names++}`

function check(condition, what) {
  if (!condition) throw new Error(what)
}

async function eventually(condition, what, seconds = 30) {
  const deadline = Date.now() + seconds * 1000
  for (;;) {
    if (await condition()) return
    check(Date.now() < deadline, `not within ${seconds} s: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

const client = target => new Kafka({ brokers: [target], clientId: 'kafkajs-suite', logLevel: logLevel.NOTHING, retry: { retries: 8 } })

async function withAdmin(kafka, work) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    return await work(admin)
  } finally {
    await admin.disconnect()
  }
}

async function create(kafka, name, numPartitions = PARTITIONS) {
  const topic = fresh(name)
  await withAdmin(kafka, admin => admin.createTopics({ topics: [{ topic, numPartitions }], waitForLeaders: true }))
  return topic
}

async function producer(kafka, config = {}) {
  const made = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, ...config })
  await made.connect()
  return made
}

const numbered = (count, partition) => [...Array(count).keys()].map(number => ({ partition, value: String(number) }))

async function fill(kafka, topic, each, partitions = PARTITIONS) {
  const writer = await producer(kafka)
  for (let partition = 0; partition < partitions; partition++) await writer.send({ topic, messages: numbered(each, partition) })
  await writer.disconnect()
}

// Writes numbers round the partitions until it is stopped; `acknowledged` holds `partition/value`.
class Load {
  constructor(kafka, topic) {
    this.acknowledged = new Set()
    this.going = true
    this.done = this.run(kafka, topic)
  }

  async run(kafka, topic) {
    const writer = await producer(kafka, { idempotent: true, maxInFlightRequests: 1 })
    for (let number = 0; this.going; number++) {
      const messages = [...Array(PARTITIONS * 5).keys()].map(index => ({ partition: index % PARTITIONS, value: `${number}.${index}` }))
      await writer.send({ topic, acks: -1, messages })
      for (const each of messages) this.acknowledged.add(`${each.partition}/${each.value}`)
      await new Promise(resolve => setTimeout(resolve, 5))
    }
    await writer.disconnect()
  }

  async stop() {
    this.going = false
    await this.done
  }
}

// Reads and commits what it read, batch by batch. `seen` is all that it read, `committed` what a commit that was answered covers.
class Member {
  constructor(kafka, groupId, topics, config = {}) {
    this.seen = []
    this.committed = []
    this.places = []
    this.crashed = null
    this.consumer = kafka.consumer({ groupId, sessionTimeout: 10000, heartbeatInterval: 500, rebalanceTimeout: 15000, maxWaitTimeInMs: 200, ...config })
    this.consumer.on('consumer.group_join', event => (this.places = Object.values(event.payload.memberAssignment).flat()))
    this.consumer.on('consumer.crash', event => (this.crashed = event.payload.error))
    this.started = this.start(topics)
  }

  async start(topics) {
    await this.consumer.connect()
    await this.consumer.subscribe({ topics, fromBeginning: true })
    await this.consumer.run({ autoCommit: false, partitionsConsumedConcurrently: 3, eachBatch: payload => this.take(payload) })
  }

  async take({ batch, heartbeat, isRunning, isStale }) {
    if (!isRunning() || isStale()) return
    const read = batch.messages.map(each => ({ place: `${batch.partition}@${each.offset}`, key: `${batch.partition}/${each.value}` }))
    this.seen.push(...read)
    const next = String(BigInt(batch.lastOffset()) + 1n)
    await this.consumer.commitOffsets([{ topic: batch.topic, partition: batch.partition, offset: next }])
    this.committed.push(...read)
    await heartbeat()
  }

  async stop() {
    await this.started
    await this.consumer.disconnect()
  }
}

async function main(cases) {
  const [target, ...chosen] = process.argv.slice(2)
  let failed = 0
  for (const each of cases) {
    if (chosen.length && !chosen.includes(each.name)) continue
    const begun = Date.now()
    const seconds = () => ((Date.now() - begun) / 1000).toFixed(1)
    try {
      const note = await each(client(target), () => client(target))
      console.log(`  ok   kafkajs/${each.name} ${seconds()} s${note ? `, ${note}` : ''}`)
    } catch (error) {
      failed++
      console.log(`  FAIL kafkajs/${each.name} after ${seconds()} s: ${String(error.stack).slice(0, 900)}`)
    }
  }
  process.exit(failed ? 1 : 0)
}

module.exports = { PARTITIONS, Load, Member, check, create, eventually, fill, fresh, main, producer, withAdmin }
