// kafkajs: producer, consumer groups and admin client. It knows neither static members nor cooperative rebalances.
'use strict'

const { CompressionTypes, AssignerProtocol, ConfigResourceTypes } = require('kafkajs')
const { PARTITIONS, Load, Member, check, create, eventually, fill, fresh, main, producer, withAdmin } = require('./harness.js')

const text = value => (value === null ? null : value.toString())

async function every_record_comes_back(kafka) {
  const topic = await create(kafka, 'content', 1)
  const writer = await producer(kafka)
  const records = [
    { key: 'key', value: 'value', headers: { one: 'first', bytes: Buffer.from([0, 255, 7]) } },
    { key: null, value: 'no key' },
    { key: 'no value', value: null },
    { key: '', value: '' },
    { key: 'größe', value: '✓'.repeat(1000), headers: { twice: ['a', 'b'] } },
    { key: 'large', value: 'x'.repeat(900_000) },
  ]
  for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) await writer.send({ topic, compression, messages: records.map(each => ({ ...each, partition: 0 })) })
  await writer.disconnect()
  const found = []
  const consumer = kafka.consumer({ groupId: fresh('g'), maxWaitTimeInMs: 100 })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({ eachMessage: async ({ message }) => void found.push(message) })
  await eventually(() => found.length >= 2 * records.length, 'every record')
  await consumer.disconnect()
  found.forEach((message, index) => {
    const wanted = records[index % records.length]
    check(message.offset === String(index), `offset ${message.offset} at ${index}`)
    check(text(message.key) === wanted.key && text(message.value) === wanted.value, `key and value of record ${index}`)
    const headers = Object.entries(wanted.headers ?? {}).map(([name, value]) => [name, [value].flat().map(each => Buffer.from(each).toString('hex'))])
    const got = Object.entries(message.headers).map(([name, value]) => [name, [value].flat().map(each => each.toString('hex'))])
    check(JSON.stringify(got) === JSON.stringify(headers), `headers of record ${index}: ${JSON.stringify(got)}`)
  })
}

async function rebalance_of_three_members_under_load(kafka) {
  const topic = await create(kafka, 'load')
  const group = fresh('g')
  const load = new Load(kafka, topic)
  const members = [new Member(kafka, group, [topic])]
  for (let count = 2; count <= 3; count++) {
    await members[members.length - 1].started
    await new Promise(resolve => setTimeout(resolve, 1500))
    members.push(new Member(kafka, group, [topic]))
  }
  await eventually(() => members.every(each => each.places.length === 2), 'two partitions for each of three members', 40)
  await members[0].stop()
  await eventually(() => members.slice(1).every(each => each.places.length === 3), 'three partitions for each of two members', 40)
  await load.stop()
  const allRead = () => {
    const read = new Set(members.flatMap(each => each.seen.map(record => record.key)))
    return [...load.acknowledged].every(key => read.has(key))
  }
  await eventually(allRead, 'all that was acknowledged is read', 40)
  for (const each of members.slice(1)) await each.stop()
  check(members.every(each => each.crashed === null), `a member crashed: ${members.map(each => each.crashed)}`)
  const places = members.flatMap(each => each.committed.map(record => record.place))
  check(new Set(places).size === places.length, `${places.length - new Set(places).size} records were read again after their commit`)
  return `${load.acknowledged.size} records`
}

async function a_commit_is_where_the_next_member_begins(kafka) {
  const topic = await create(kafka, 'commit')
  const group = fresh('g')
  await fill(kafka, topic, 100)
  const first = new Member(kafka, group, [topic], { maxBytesPerPartition: 512 })
  await eventually(() => first.seen.length >= 200, 'some records')
  await first.stop()
  const covered = new Set(first.committed.map(record => record.place))
  const second = new Member(kafka, group, [topic])
  const all = () => new Set([...covered, ...second.seen.map(record => record.place)])
  await eventually(() => all().size === 100 * PARTITIONS, 'the rest')
  await second.stop()
  const again = second.seen.filter(record => covered.has(record.place)).length
  check(again === 0, `${again} records were read twice after a commit`)
}

async function pause_resume_and_seek_by_time(kafka) {
  const topic = await create(kafka, 'seek', 1)
  const base = Date.now() - 100_000
  const writer = await producer(kafka)
  await writer.send({ topic, messages: [...Array(100).keys()].map(number => ({ partition: 0, value: String(number), timestamp: String(base + number * 1000) })) })
  await writer.disconnect()
  const seen = []
  const consumer = kafka.consumer({ groupId: fresh('g'), maxWaitTimeInMs: 100 })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({ eachMessage: async ({ message }) => void seen.push(Number(text(message.value))) })
  await eventually(() => seen.length === 100, 'all records')
  consumer.pause([{ topic }])
  const [at] = await withAdmin(kafka, admin => admin.fetchTopicOffsetsByTimestamp(topic, base + 49_500))
  check(at.offset === '50', `offset ${at.offset} for the time of record 50`)
  consumer.seek({ topic, partition: 0, offset: at.offset })
  await new Promise(resolve => setTimeout(resolve, 1000))
  check(seen.length === 100, 'a paused topic gave a record')
  consumer.resume([{ topic }])
  await eventually(() => seen.length === 150, 'fifty records from the middle')
  check(seen[100] === 50 && seen[149] === 99, `it went on at ${seen[100]}`)
  await consumer.disconnect()
}

async function administration_of_groups(kafka) {
  const topic = await create(kafka, 'groups')
  const group = fresh('g')
  await fill(kafka, topic, 10)
  const member = new Member(kafka, group, [topic])
  await eventually(() => member.committed.length === 10 * PARTITIONS, 'everything committed')
  await withAdmin(kafka, async admin => {
    const [described] = (await admin.describeGroups([group])).groups
    check(described.state === 'Stable' && described.members.length === 1, `${described.state} with ${described.members.length} members`)
    const assigned = AssignerProtocol.MemberAssignment.decode(described.members[0].memberAssignment).assignment
    check(assigned[topic].length === PARTITIONS, `assigned ${JSON.stringify(assigned)}`)
    check((await admin.listGroups()).groups.some(each => each.groupId === group && each.protocolType === 'consumer'), 'the group is not listed')
    await admin.deleteGroups([group]).then(() => check(false, 'a group with members was deleted'), error => check(error.groups[0].errorCode === 68, error.message))
    await member.stop()
    await admin.resetOffsets({ groupId: group, topic, earliest: true })
    const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic], resolveOffsets: true })
    check(partitions.length === PARTITIONS && partitions.every(each => each.offset === '0'), JSON.stringify(partitions))
    await admin.deleteGroups([group])
    check(!(await admin.listGroups()).groups.some(each => each.groupId === group), 'a deleted group is listed')
  })
}

async function administration_of_topics(kafka) {
  const topic = await create(kafka, 'topics', 2)
  await fill(kafka, topic, 20, 2)
  await withAdmin(kafka, async admin => {
    await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] })
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    check(topics[0].partitions.length === 4, `${topics[0].partitions.length} partitions`)
    await admin.alterConfigs({ validateOnly: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name: 'retention.ms', value: '123456789' }] }] })
    const wanted = [{ type: ConfigResourceTypes.TOPIC, name: topic, configNames: ['retention.ms'] }]
    const retention = async () => (await admin.describeConfigs({ includeSynonyms: false, resources: wanted })).resources[0].configEntries[0].configValue
    await eventually(async () => (await retention()) === '123456789', 'the altered configuration')
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '15' }] })
    const offsets = await admin.fetchTopicOffsets(topic)
    const first = offsets.find(each => each.partition === 0)
    check(first.low === '15' && first.high === '20', JSON.stringify(first))
    const cluster = await admin.describeCluster()
    check(cluster.brokers.length === 1 && cluster.controller === cluster.brokers[0].nodeId, JSON.stringify(cluster))
    await admin.deleteTopics({ topics: [topic] })
    check(!(await admin.listTopics()).includes(topic), 'a deleted topic is listed')
  })
}

async function five_hundred_topics(kafka) {
  const topics = [...Array(500).keys()].map(() => fresh('many'))
  await withAdmin(kafka, admin => admin.createTopics({ topics: topics.map(topic => ({ topic, numPartitions: 1 })), waitForLeaders: true }))
  const writer = await producer(kafka)
  await writer.sendBatch({ topicMessages: topics.map(topic => ({ topic, messages: [{ value: topic }] })) })
  await writer.disconnect()
  const consumer = kafka.consumer({ groupId: fresh('g'), maxWaitTimeInMs: 100 })
  const seen = new Map()
  await consumer.connect()
  await consumer.subscribe({ topics, fromBeginning: true })
  await consumer.run({ eachMessage: async ({ topic, message }) => void seen.set(topic, text(message.value)) })
  await eventually(() => seen.size === topics.length, 'a record of every topic', 60)
  check(topics.every(topic => seen.get(topic) === topic), 'a topic gave what belongs to another')
  await consumer.disconnect()
  await withAdmin(kafka, admin => admin.deleteTopics({ topics }))
}

// Every group has a connection of its own: a join waits for the initial delay, and what comes behind it on its connection waits too.
async function two_hundred_groups(kafka, another) {
  const topic = await create(kafka, 'wide', 1)
  const groups = [...Array(200).keys()].map(() => fresh('wide'))
  await withAdmin(kafka, async admin => {
    const commit = (group, index) => withAdmin(another(), own => own.setOffsets({ groupId: group, topic, partitions: [{ partition: 0, offset: String(index) }] }))
    for (let start = 0; start < groups.length; start += 100) await Promise.all(groups.slice(start, start + 100).map((group, index) => commit(group, start + index)))
    const listed = new Set((await admin.listGroups()).groups.map(each => each.groupId))
    check(groups.every(group => listed.has(group)), 'a group is not listed')
    for (const index of [0, 99, 199]) {
      const [{ partitions }] = await admin.fetchOffsets({ groupId: groups[index], topics: [topic] })
      check(partitions[0].offset === String(index), `${groups[index]} is at ${partitions[0].offset}`)
    }
    await admin.deleteGroups(groups)
  })
}

main([
  every_record_comes_back,
  rebalance_of_three_members_under_load,
  a_commit_is_where_the_next_member_begins,
  pause_resume_and_seek_by_time,
  administration_of_groups,
  administration_of_topics,
  five_hundred_topics,
  two_hundred_groups,
])
