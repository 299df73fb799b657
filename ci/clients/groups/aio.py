"""Consumer groups through aiokafka: what the suite asks of librdkafka, less cooperative rebalances, which aiokafka does not know."""

import asyncio
import functools
import logging
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError
from harness.rdkafka import admin, create
from harness.suite import fresh

from groups.topics import PARTITIONS, Load, fill

GROUP_WENT_ON = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)
CASE_SECONDS_MAX = 120

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # It tells of every retry.


def case(function):
    """Makes a case of a coroutine function."""

    @functools.wraps(function)
    def run(target):
        asyncio.run(asyncio.wait_for(function(target), CASE_SECONDS_MAX))

    return run


async def until(check, what, seconds=40):
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.05)


class Member(ConsumerRebalanceListener):
    """Reads, and commits what it has read before it asks for more; `committed` is what an answered commit covers."""

    def __init__(self, target, group, topic, **config):
        defaults = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "session_timeout_ms": 6000, "heartbeat_interval_ms": 500, "metadata_max_age_ms": 2000}
        self.client = AIOKafkaConsumer(bootstrap_servers=target, group_id=group, **{**defaults, **config})
        self.topic, self.seen, self.committed, self.assigned = topic, [], [], 0
        self.stopping, self.task = False, None

    def on_partitions_revoked(self, revoked):
        """Nothing is held back: every record was committed before the next was asked for."""

    def on_partitions_assigned(self, _assigned):
        self.assigned += 1

    async def start(self):
        await self.client.start()
        self.client.subscribe([self.topic], listener=self)
        self.task = asyncio.create_task(self.run())
        return self

    async def run(self):
        while not self.stopping:
            found = await self.client.getmany(timeout_ms=200)
            records = [(place.partition, record.offset, record.value) for place, each in found.items() for record in each]
            self.seen += records
            if records:
                await self.commit(found, records)

    async def commit(self, found, records):
        try:
            await self.client.commit({place: each[-1].offset + 1 for place, each in found.items()})
            self.committed += records
        except GROUP_WENT_ON:
            pass  # What it read is read again by another.

    def places(self):
        return {place.partition for place in self.client.assignment()}

    async def stop(self):
        self.stopping = True
        await self.task
        await self.client.stop()


@case
async def aiokafka_rebalance_of_three_members_under_load(target):
    topic, group = create(target, "aio", PARTITIONS), fresh("g")
    load = Load(target, topic)
    members = [await Member(target, group, topic).start()]
    for _ in range(2):
        await asyncio.sleep(1.5)
        members.append(await Member(target, group, topic).start())
    await until(lambda: all(len(each.places()) == 2 for each in members), "two partitions for each of three members")
    await members[0].stop()
    await until(lambda: all(len(each.places()) == 3 for each in members[1:]), "three partitions for each of two members")
    await asyncio.to_thread(load.stop)
    read = lambda: {(partition, value) for each in members for partition, _, value in each.seen}
    await until(lambda: load.acknowledged <= read(), "all that was acknowledged is read")
    for each in members[1:]:
        await each.stop()
    places = [(partition, offset) for each in members for partition, offset, _ in each.committed]
    assert len(places) == len(set(places)), f"{len(places) - len(set(places))} records were read again after their commit"


@case
async def aiokafka_static_member_restarts_without_a_rebalance(target):
    topic, group = create(target, "aio-static", PARTITIONS), fresh("g")
    stays = await Member(target, group, topic, group_instance_id="stays", session_timeout_ms=20_000).start()
    leaves = await Member(target, group, topic, group_instance_id="leaves", session_timeout_ms=20_000).start()
    await until(lambda: len(stays.places()) == 3 and len(leaves.places()) == 3, "three partitions each")
    had, before = leaves.places(), stays.assigned
    await leaves.stop()
    again = await Member(target, group, topic, group_instance_id="leaves", session_timeout_ms=20_000).start()
    await until(lambda: again.places() == had, "the partitions that it had", 20)
    assert stays.assigned == before, "the other member was disturbed"
    for each in (stays, again):
        await each.stop()


@case
async def aiokafka_pause_and_seek_by_time(target):
    topic = create(target, "aio-seek", 1)
    base = int(time.time() * 1000) - 100_000
    async with AIOKafkaProducer(bootstrap_servers=target) as producer:
        for number in range(100):
            await producer.send(topic, str(number).encode(), partition=0, timestamp_ms=base + number * 1000)
        await producer.flush()
    async with AIOKafkaConsumer(topic, bootstrap_servers=target, group_id=fresh("g"), auto_offset_reset="earliest") as client:
        place = TopicPartition(topic, 0)
        assert (await asyncio.wait_for(client.getone(), 20)).value == b"0"
        client.pause(place)
        while await client.getmany(timeout_ms=200):
            pass
        at = (await client.offsets_for_times({place: base + 49_500}))[place]
        assert at.offset == 50, at
        client.seek(place, at.offset)
        assert not await client.getmany(timeout_ms=500), "a paused partition gave a record"
        client.resume(place)
        assert (await asyncio.wait_for(client.getone(), 20)).value == b"50"


@case
async def aiokafka_five_hundred_topics(target):
    topics = [fresh("aio-wide") for _ in range(500)]
    client = AIOKafkaAdminClient(bootstrap_servers=target)
    await client.start()
    await client.create_topics([NewTopic(topic, 1, 1) for topic in topics])
    async with AIOKafkaProducer(bootstrap_servers=target) as producer:
        for topic in topics:
            await producer.send(topic, topic.encode(), partition=0)
        await producer.flush()
    seen = {}
    async with AIOKafkaConsumer(*topics, bootstrap_servers=target, group_id=fresh("g"), auto_offset_reset="earliest") as reader:
        while len(seen) < len(topics):
            found = await reader.getmany(timeout_ms=1000)
            seen |= {place.topic: record.value for place, records in found.items() for record in records}
    assert all(value == topic.encode() for topic, value in seen.items()), "a topic gave what belongs to another"
    await client.delete_topics(topics)
    await client.close()


@case
async def aiokafka_two_hundred_groups(target):
    topic, groups = create(target, "aio-groups", 1), [fresh("aio-many") for _ in range(200)]
    fill(target, topic, 1, 1)
    for number, group in enumerate(groups):
        async with AIOKafkaConsumer(bootstrap_servers=target, group_id=group, enable_auto_commit=False) as client:
            client.assign([TopicPartition(topic, 0)])
            await client.commit({TopicPartition(topic, 0): number})
    listed = {each.group_id for each in admin(target).list_consumer_groups().result(20).valid}
    assert set(groups) <= listed, f"{len(set(groups) - listed)} groups are missing"
    for number in (0, 77, 199):
        async with AIOKafkaConsumer(bootstrap_servers=target, group_id=groups[number]) as client:
            assert await client.committed(TopicPartition(topic, 0)) == number


CASES = (
    aiokafka_rebalance_of_three_members_under_load,
    aiokafka_static_member_restarts_without_a_rebalance,
    aiokafka_pause_and_seek_by_time,
    aiokafka_five_hundred_topics,
    aiokafka_two_hundred_groups,
)
