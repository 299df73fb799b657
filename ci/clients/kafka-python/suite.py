"""kafka-python: producer, assigned consumer and admin client."""

import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError

from harness.records import CODECS, Record, assorted, difference, large
from harness.suite import Suite, eventually, fresh

suite = Suite("kafka-python")
PARTITIONS = 3


def create(target, name, partitions=PARTITIONS, configs=None):
    topic = fresh(name)
    client = KafkaAdminClient(bootstrap_servers=target)
    client.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)])
    client.close()
    return topic


def producer(target, **config):
    return KafkaProducer(bootstrap_servers=target, max_request_size=1_100_000, **config)


def write(target, topic, records, partition=0, **config):
    client = producer(target, **{"acks": "all", "linger_ms": 5, **config})
    sent = [client.send(topic, record.value, record.key, list(record.headers), partition) for record in records]
    client.flush(30)
    offsets = [future.get(10).offset for future in sent]
    client.close()
    return offsets


def read(target, topic, count, partition=0, offset=0, seconds=30):
    reader = KafkaConsumer(bootstrap_servers=target, enable_auto_commit=False, auto_offset_reset="none", max_partition_fetch_bytes=1 << 20)
    place = TopicPartition(topic, partition)
    reader.assign([place])
    reader.seek(place, offset)
    found, deadline = [], time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count} records came"
        for message in reader.poll(500, max_records=count - len(found)).get(place, ()):
            found.append((message.offset, Record(message.key, message.value, tuple(message.headers))))
    reader.close()
    return found


def round_trip(target, topic, records, partition=0, **config):
    offsets = write(target, topic, records, partition, **config)
    assert offsets == list(range(offsets[0], offsets[0] + len(records))), f"acknowledged offsets are not in order: {offsets[:20]}"
    found = read(target, topic, len(records), partition, offsets[0])
    assert [offset for offset, _ in found] == offsets, "records came at other offsets than acknowledged"
    wrong = difference(records, [record for _, record in found])
    assert wrong is None, wrong


@suite.case
def every_codec(target):
    topic = create(target, "codec")
    for number, codec in enumerate(CODECS):
        kind = None if codec == "none" else codec
        round_trip(target, topic, assorted(codec, null_headers=False), number % PARTITIONS, compression_type=kind)


@suite.case
def topics_that_say_their_codec(target):
    for kept in (*CODECS[1:], "uncompressed"):
        topic = create(target, f"kept-{kept}", configs={"compression.type": kept})
        for number, codec in enumerate(("none", "gzip", "zstd")):
            kind = None if codec == "none" else codec
            round_trip(target, topic, assorted(codec, null_headers=False), number, compression_type=kind)
        round_trip(target, topic, large("gzip"), 1, compression_type="gzip")


@suite.case
def large_records(target):
    topic = create(target, "large")
    round_trip(target, topic, large("none"))
    round_trip(target, topic, large("gzip"), 1, compression_type="gzip")


@suite.case
def without_idempotence(target):
    topic = create(target, "plain")
    for acks in (1, "all"):
        round_trip(target, topic, assorted(f"plain {acks}", null_headers=False), enable_idempotence=False, acks=acks)


@suite.case
def idempotent_producer(target):
    topic = create(target, "idempotent")
    round_trip(target, topic, assorted("idempotent", null_headers=False) * 5, 2, enable_idempotence=True, batch_size=4096, linger_ms=1)


@suite.case
def beginnings_ends_and_times(target):
    topic = create(target, "times", 2)
    base = int(time.time() * 1000) - 100_000
    client = producer(target)
    for number in range(30):
        client.send(topic, b"v", partition=1, timestamp_ms=base + number * 1000)
        client.flush(15)
    reader = KafkaConsumer(bootstrap_servers=target)
    empty, full = TopicPartition(topic, 0), TopicPartition(topic, 1)
    assert reader.beginning_offsets([empty, full]) == {empty: 0, full: 0}
    assert reader.end_offsets([empty, full]) == {empty: 0, full: 30}
    for wanted, expected in ((base, 0), (base + 1, 1), (base + 12_000, 12), (base + 28_001, 29)):
        found = reader.offsets_for_times({full: wanted})[full]
        assert found.offset == expected and found.timestamp == base + expected * 1000, (wanted - base, found)
    assert reader.offsets_for_times({full: base + 30_000})[full] is None
    assert reader.offsets_for_times({empty: base})[empty] is None


@suite.case
def topic_life(target):
    client = KafkaAdminClient(bootstrap_servers=target)
    topic = create(target, "life", 2)
    eventually(lambda: topic in client.list_topics(), "the topic is listed")
    try:
        client.create_topics([NewTopic(topic, 2, 1)])
        raise AssertionError("a topic was created twice")
    except TopicAlreadyExistsError:
        pass
    described = client.describe_topics([topic])[0]
    assert len(described["partitions"]) == 2, described
    client.delete_topics([topic])
    eventually(lambda: topic not in client.list_topics(), "the topic is gone")
    try:
        client.delete_topics([topic])
        raise AssertionError("a topic was deleted twice")
    except UnknownTopicOrPartitionError:
        pass


@suite.case
def topic_configs(target):
    topic = create(target, "config", 1, {"retention.ms": "3600000"})
    client = KafkaAdminClient(bootstrap_servers=target)
    described = client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
    text = str(described)
    assert "retention.ms" in text and "3600000" in text and "max.message.bytes" in text, text[:500]


@suite.case
def auto_create(target):
    topic = fresh("auto")
    client = producer(target, acks="all")
    assert client.send(topic, b"v").get(20).offset == 0
    assert client.partitions_for(topic)


if __name__ == "__main__":
    suite.main()
