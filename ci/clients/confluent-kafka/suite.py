"""librdkafka by confluent-kafka: producer, assigned consumer and admin client."""

import time

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType

from harness.rdkafka import PARTITIONS, admin, consumer, create, read, round_trip, write
from harness.records import CODECS, Record, assorted, difference, large
from harness.suite import Suite, eventually, fresh

suite = Suite("confluent-kafka")


@suite.case
def every_codec(target):
    topic = create(target, "codec")
    for number, codec in enumerate(CODECS):
        round_trip(target, topic, assorted(codec), number % PARTITIONS, **{"compression.type": codec})


@suite.case
def large_records(target):
    topic = create(target, "large")
    for codec in ("none", "lz4"):
        round_trip(target, topic, large(codec), **{"compression.type": codec})


@suite.case
def idempotent_producer(target):
    topic = create(target, "idempotent")
    config = {"enable.idempotence": True, "batch.num.messages": 10, "linger.ms": 1}
    round_trip(target, topic, assorted("idempotent") * 20, 1, **config)


@suite.case
def every_acks(target):
    topic = create(target, "acks")
    for acks in (0, 1, "all"):
        records = assorted(f"acks {acks}")
        start = write(target, topic, [Record(None, b"before")], 2)[0] + 1
        write(target, topic, records, 2, acks=acks)
        found = read(target, topic, len(records), 2, start)
        wrong = difference(records, [record for _, record in found])
        assert wrong is None, wrong


@suite.case
def fetch_from_the_middle_of_a_batch(target):
    topic = create(target, "middle", 1)
    records = assorted("middle")
    offsets = write(target, topic, records, **{"linger.ms": 200, "compression.type": "zstd"})
    for start in (1, 7, len(records) - 1):
        found = read(target, topic, len(records) - start, 0, start)
        assert [offset for offset, _ in found] == offsets[start:], f"from {start}"
        assert difference(records[start:], [record for _, record in found]) is None, f"from {start}"


@suite.case
def watermarks_and_offsets_by_time(target):
    topic = create(target, "times", 1)
    producer = Producer({"bootstrap.servers": target})
    base = int(time.time() * 1000) - 100_000
    for number in range(50):
        producer.produce(topic, value=b"v", partition=0, timestamp=base + number * 1000)
        if number % 10 == 9:
            producer.flush(15)
    reader = consumer(target)
    assert reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=10) == (0, 50)
    for wanted, expected in ((base, 0), (base + 1, 1), (base + 25_000, 25), (base + 25_500, 26), (base + 49_000, 49)):
        answer = reader.offsets_for_times([TopicPartition(topic, 0, wanted)], timeout=10)
        assert answer[0].offset == expected, f"{wanted - base}: {answer[0].offset}, not {expected}"
    past_end = reader.offsets_for_times([TopicPartition(topic, 0, base + 49_001)], timeout=10)[0]
    assert past_end.offset in (-1, 50), past_end
    newest = list(admin(target).list_offsets({TopicPartition(topic, 0): OffsetSpec.max_timestamp()}).values())[0].result(10)
    assert (newest.offset, newest.timestamp) == (49, base + 49_000), newest


@suite.case
def out_of_range_is_said(target):
    topic = create(target, "range", 1)
    write(target, topic, assorted("range"))
    reader = consumer(target)
    reader.assign([TopicPartition(topic, 0, 10_000)])
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        message = reader.poll(0.5)
        if message is not None:
            assert message.error().code() == KafkaError._AUTO_OFFSET_RESET, message.error()
            return
    raise AssertionError("an offset past the end gave neither records nor an error")


@suite.case
def long_poll_wakes(target):
    """A consumer that waits at the end gets a new record at once, not at the end of its wait."""
    topic = create(target, "poll", 1)
    write(target, topic, [Record(b"k", b"first")])
    reader = consumer(target, **{"fetch.wait.max.ms": 10_000, "fetch.min.bytes": 1, "socket.timeout.ms": 20_000})
    reader.assign([TopicPartition(topic, 0, 0)])
    assert reader.poll(15) is not None
    time.sleep(1)
    started = time.monotonic()
    write(target, topic, [Record(b"k", b"second")])
    message = reader.poll(15)
    assert message is not None and message.value() == b"second"
    assert time.monotonic() - started < 3, f"the record came after {time.monotonic() - started:.1f} s"


@suite.case
def auto_create(target):
    topic = fresh("auto")
    offsets = write(target, topic, [Record(b"k", b"v")], partition=0)
    assert offsets == [0]
    partitions = admin(target).list_topics(topic, timeout=10).topics[topic].partitions
    assert sorted(partitions) == list(range(len(partitions))) and partitions, partitions


@suite.case
def topic_life(target):
    client = admin(target)
    topic = create(target, "life", 2)
    for future in client.create_topics([NewTopic(topic, 2, 1)]).values():
        assert code_of(future) == KafkaError.TOPIC_ALREADY_EXISTS
    client.create_partitions([NewPartitions(topic, 5)])[topic].result(15)
    eventually(lambda: len(client.list_topics(topic, timeout=10).topics[topic].partitions) == 5, "five partitions")
    round_trip(target, topic, assorted("life"), 4)
    client.delete_topics([topic])[topic].result(15)
    eventually(lambda: topic not in client.list_topics(timeout=10).topics, "the topic is gone")
    assert code_of(client.delete_topics([topic])[topic]) == KafkaError.UNKNOWN_TOPIC_OR_PART
    client.create_topics([NewTopic(topic, 1, 1)])[topic].result(15)
    offsets = write(target, topic, [Record(b"k", b"a new life")])
    assert offsets == [0], f"a topic of the same name began at {offsets}"


def code_of(future):
    try:
        future.result(15)
    except KafkaException as error:
        return error.args[0].code()
    return None


@suite.case
def topic_names_are_checked(target):
    client = admin(target)
    for bad in ("with space", "a/b", "x" * 250):
        assert code_of(client.create_topics([NewTopic(bad, 1, 1)])[bad]) == KafkaError.TOPIC_EXCEPTION, bad


@suite.case
def topic_configs(target):
    client = admin(target)
    topic = create(target, "config", 1, {"retention.ms": "3600000", "max.message.bytes": "20000"})
    resource = ConfigResource(ResourceType.TOPIC, topic)

    def configs():
        return client.describe_configs([resource])[resource].result(15)

    found = configs()
    assert found["retention.ms"].value == "3600000" and not found["retention.ms"].is_default
    assert found["segment.bytes"].value == "1073741824" and found["segment.bytes"].is_default, found["segment.bytes"]
    assert found["cleanup.policy"].value == "delete", found["cleanup.policy"]
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("max.message.bytes", None, incremental_operation=AlterConfigOpType.DELETE),
    ])
    client.incremental_alter_configs([change])[change].result(15)
    eventually(lambda: configs()["retention.ms"].value == "7200000", "the new retention")
    eventually(lambda: configs()["max.message.bytes"].value == "1048588", "the default message size")
    wrong = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("retention.ms", "soon", incremental_operation=AlterConfigOpType.SET),
    ])
    assert code_of(client.incremental_alter_configs([wrong])[wrong]) is not None, "a retention of `soon` was taken"


@suite.case
def C21_max_message_bytes_is_enforced(target):
    topic = create(target, "size", 1, {"max.message.bytes": "20000"})
    errors = []
    producer = Producer({"bootstrap.servers": target, "message.max.bytes": 1_000_000})
    producer.produce(topic, value=b"x" * 30_000, partition=0, on_delivery=lambda error, _: errors.append(error))
    producer.flush(15)
    assert errors and errors[0] is not None and errors[0].code() == KafkaError.MSG_SIZE_TOO_LARGE, errors
    assert write(target, topic, [Record(None, b"fits")]) == [0]


@suite.case
def delete_records(target):
    topic = create(target, "truncated", 1)
    records = assorted("truncated")
    offsets = write(target, topic, records, **{"batch.num.messages": 10})
    (deleted,) = admin(target).delete_records([TopicPartition(topic, 0, 25)]).values()
    assert deleted.result(15).low_watermark == 25
    reader = consumer(target)
    eventually(lambda: reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[0] == 25, "log start 25")
    found = read(target, topic, len(records) - 25, 0, 25)
    assert [offset for offset, _ in found] == offsets[25:]
    early = consumer(target, **{"auto.offset.reset": "earliest"})
    early.assign([TopicPartition(topic, 0, 3)])
    assert eventually(lambda: early.poll(0.5), "a record").offset() == 25


@suite.case
def describe_cluster(target):
    cluster = admin(target).describe_cluster().result(15)
    assert len(cluster.nodes) == 1 and cluster.controller is not None and cluster.cluster_id, cluster
    host, port = target.split(":")
    assert (cluster.nodes[0].host, cluster.nodes[0].port) == (host, int(port)), cluster.nodes[0]


if __name__ == "__main__":
    suite.main()
