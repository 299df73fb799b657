"""aiokafka: producer, assigned consumer and admin client; an older dialect of the protocol than the others speak."""

import asyncio
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from harness.records import CODECS, Record, assorted, difference, large
from harness.suite import Suite, fresh

suite = Suite("aiokafka")
PARTITIONS = 3


def case(function):
    """Registers an asynchronous case."""

    def run(target):
        asyncio.run(asyncio.wait_for(function(target), 90))

    run.__name__ = function.__name__
    return suite.case(run)


async def create(target, name, partitions=PARTITIONS, configs=None):
    topic = fresh(name)
    async with administration(target) as client:
        await client.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs or {})])
    return topic


class administration:
    """The admin client as a context."""

    def __init__(self, target):
        self.client = AIOKafkaAdminClient(bootstrap_servers=target)

    async def __aenter__(self):
        await self.client.start()
        return self.client

    async def __aexit__(self, *_):
        await self.client.close()


async def write(target, topic, records, partition=0, **config):
    async with AIOKafkaProducer(bootstrap_servers=target, max_request_size=1_100_000, linger_ms=5, **config) as client:
        sent = [await client.send(topic, record.value, record.key, partition, headers=list(record.headers)) for record in records]
        return [(await future).offset for future in sent]


async def read(target, topic, count, partition=0, offset=0, seconds=30):
    place = TopicPartition(topic, partition)
    reader = AIOKafkaConsumer(bootstrap_servers=target, enable_auto_commit=False, auto_offset_reset="none", group_id=None)
    await reader.start()
    try:
        reader.assign([place])
        reader.seek(place, offset)
        found, deadline = [], time.monotonic() + seconds
        while len(found) < count:
            assert time.monotonic() < deadline, f"only {len(found)} of {count} records came"
            batches = await reader.getmany(place, timeout_ms=500, max_records=count - len(found))
            for message in batches.get(place, ()):
                found.append((message.offset, Record(message.key, message.value, tuple(message.headers))))
        return found
    finally:
        await reader.stop()


async def round_trip(target, topic, records, partition=0, **config):
    offsets = await write(target, topic, records, partition, **config)
    assert offsets == list(range(offsets[0], offsets[0] + len(records))), f"acknowledged offsets are not in order: {offsets[:20]}"
    found = await read(target, topic, len(records), partition, offsets[0])
    assert [offset for offset, _ in found] == offsets, "records came at other offsets than acknowledged"
    wrong = difference(records, [record for _, record in found])
    assert wrong is None, wrong


@case
async def every_codec(target):
    topic = await create(target, "codec")
    for number, codec in enumerate(CODECS):
        kind = None if codec == "none" else codec
        await round_trip(target, topic, assorted(codec), number % PARTITIONS, compression_type=kind)


@case
async def large_records(target):
    topic = await create(target, "large")
    await round_trip(target, topic, large("none"))


@case
async def idempotent_producer(target):
    topic = await create(target, "idempotent")
    await round_trip(target, topic, assorted("idempotent") * 5, 1, enable_idempotence=True, max_batch_size=4096)


@case
async def every_acks(target):
    topic = await create(target, "acks")
    for acks in (1, "all"):
        await round_trip(target, topic, assorted(f"acks {acks}"), 2, acks=acks)


@case
async def beginnings_ends_and_times(target):
    topic = await create(target, "times", 2)
    base = int(time.time() * 1000) - 100_000
    async with AIOKafkaProducer(bootstrap_servers=target) as client:
        for number in range(20):
            await client.send_and_wait(topic, b"v", partition=1, timestamp_ms=base + number * 1000)
    empty, full = TopicPartition(topic, 0), TopicPartition(topic, 1)
    async with AIOKafkaConsumer(bootstrap_servers=target, group_id=None) as reader:
        assert await reader.beginning_offsets([empty, full]) == {empty: 0, full: 0}
        assert await reader.end_offsets([empty, full]) == {empty: 0, full: 20}
        found = (await reader.offsets_for_times({full: base + 7_500}))[full]
        assert (found.offset, found.timestamp) == (8, base + 8_000), found
        assert (await reader.offsets_for_times({full: base + 20_000}))[full] is None


@case
async def topic_life(target):
    topic = await create(target, "life", 2, {"retention.ms": "3600000"})
    async with administration(target) as client:
        assert topic in await client.list_topics()
        described = await client.describe_topics([topic])
        assert len(described[0]["partitions"]) == 2, described
        configs = str(await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        assert "retention.ms" in configs and "3600000" in configs, configs[:500]
        await client.delete_topics([topic])
        for _ in range(100):
            if topic not in await client.list_topics():
                return
            await asyncio.sleep(0.1)
    raise AssertionError("the topic is still listed")


@case
async def auto_create(target):
    topic = fresh("auto")
    async with AIOKafkaProducer(bootstrap_servers=target) as client:
        assert (await client.send_and_wait(topic, b"v")).offset == 0


if __name__ == "__main__":
    suite.main()
