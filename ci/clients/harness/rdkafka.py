"""Writing, reading and administration through librdkafka, for the suites that need a client more than they test one."""

import functools
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from harness.records import Record, difference
from harness.suite import eventually, fresh

PARTITIONS = 3


@functools.cache  # the client must outlive the futures that it hands out
def admin(target):
    return AdminClient({"bootstrap.servers": target, "log_level": 0})


def create(target, name, partitions=PARTITIONS, config=None):
    topic = fresh(name)
    admin(target).create_topics([NewTopic(topic, partitions, 1, config=config or {})])[topic].result(15)
    return topic


def write(target, topic, records, partition=0, **config):
    """Produces all records in order and returns their acknowledged offsets."""
    offsets, errors = [], []

    def delivered(error, message):
        errors.append(error) if error else offsets.append(message.offset())

    producer = Producer({"bootstrap.servers": target, "linger.ms": 5, "message.max.bytes": 1_000_000, **config})
    for record in records:
        while True:
            try:
                producer.produce(
                    topic, value=record.value, key=record.key, partition=partition,
                    headers=list(record.headers) or None, on_delivery=delivered,
                )
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(30) == 0, "records were left unsent"
    assert not errors, f"{len(errors)} errors, first: {errors[0]}"
    return offsets


def consumer(target, **config):
    return Consumer({
        "bootstrap.servers": target, "group.id": "unused", "enable.auto.commit": False, "auto.offset.reset": "error",
        "enable.partition.eof": False, **config,
    })


def read(target, topic, count, partition=0, offset=0, seconds=30, **config):
    """(offset, record) of the next `count` records of a partition, by assignment."""
    reader = consumer(target, **config)
    reader.assign([TopicPartition(topic, partition, offset)])
    found, deadline = [], time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count} records came"
        for message in reader.consume(min(500, count - len(found)), 0.5):
            assert message.error() is None, message.error()
            headers = tuple((name, value) for name, value in message.headers() or ())
            found.append((message.offset(), Record(message.key(), message.value(), headers)))
    reader.close()
    return found


def round_trip(target, topic, records, partition=0, **config):
    offsets = write(target, topic, records, partition, **config)
    assert offsets == list(range(offsets[0], offsets[0] + len(records))), f"acknowledged offsets are not in order: {offsets[:20]}"
    found = read(target, topic, len(records), partition, offsets[0])
    assert [offset for offset, _ in found] == offsets, "records came at other offsets than acknowledged"
    wrong = difference(records, [record for _, record in found])
    assert wrong is None, wrong


def log_bounds(reader, topic, partition):
    """(log start, end) as soon as the partition has a leader that tells them."""

    def ask():
        try:
            return reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        except KafkaException as error:
            if not error.args[0].retriable() and error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                raise
            return None

    return eventually(ask, f"the bounds of {topic}/{partition}")
