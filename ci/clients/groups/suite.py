"""Consumer groups through librdkafka, aiokafka and kafka-python: members that come, go, die and restart under load."""

import time

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import NewTopic
from kafka import KafkaConsumer

from groups import aio
from groups.members import Member, member
from groups.topics import PARTITIONS, Load, fill, numbered
from harness.rdkafka import admin, create, write
from harness.suite import Suite, eventually, fresh

suite = Suite("groups")


def seen_of(members):
    return [(partition, value) for each in members for _, partition, _, value in each.seen]


def rebalance_under_load(target, **config):
    """Three members come and go while records are written; every acknowledged record is read, and none twice after a commit."""
    topic, group = create(target, "load", PARTITIONS), fresh("g")
    load = Load(target, topic)
    members = [Member(target, group, [topic], **config)]
    for _ in range(2):
        time.sleep(1.5)
        members.append(Member(target, group, [topic], **config))
    eventually(lambda: all(len(each.places()) == 2 for each in members), "two partitions for each of three members", 40)
    members[0].stop()
    eventually(lambda: all(len(each.places()) == 3 for each in members[1:]), "three partitions for each of two members", 40)
    load.stop()
    eventually(lambda: load.acknowledged <= set(seen_of(members)), "all that was acknowledged is read", 40)
    for each in members[1:]:
        each.stop()
    assert not any(each.errors for each in members), [each.errors for each in members]
    places = [(partition, offset) for each in members for _, partition, offset, _ in each.kept]
    assert len(places) == len(set(places)), f"{len(places) - len(set(places))} records were read again after their commit"
    suite.note(f"{len(load.acknowledged)} records")


@suite.case
def rebalance_of_three_members_under_load(target):
    rebalance_under_load(target)


@suite.case
def cooperative_rebalance_of_three_members_under_load(target):
    rebalance_under_load(target, **{"partition.assignment.strategy": "cooperative-sticky"})


@suite.case
def T8_a_commit_is_where_the_next_member_begins(target):
    topic, group = create(target, "commit", PARTITIONS), fresh("g")
    written = fill(target, topic, 200)
    first = Member(target, group, [topic])
    eventually(lambda: len(first.seen) >= 300, "some records", 30)
    first.stop()
    read = set(seen_of([first]))
    assert first.committed == len(first.seen), "the last commit failed"
    second = Member(target, group, [topic])
    eventually(lambda: set(seen_of([first, second])) == written, "the rest", 30)
    second.stop()
    again = read & set(seen_of([second]))
    assert not again, f"{len(again)} records were read twice after a commit"


@suite.case
def a_member_that_dies_is_replaced(target):
    topic, group = create(target, "death", PARTITIONS), fresh("g")
    members = [Member(target, group, [topic]) for _ in range(2)]
    eventually(lambda: sorted(len(each.places()) for each in members) == [3, 3], "three partitions each", 30)
    members[0].dying.set()
    members[0].join(10)
    # Its client still sends heartbeats; what expires is its interval between polls, so it is destroyed without a word.
    members[0].client.unsubscribe()
    eventually(lambda: len(members[1].places()) == 6, "everything goes to the one that lives", 40)
    members[1].stop()


@suite.case
def a_static_member_restarts_without_a_rebalance(target):
    topic, group = create(target, "static", PARTITIONS), fresh("g")
    fill(target, topic, 50)
    stays = Member(target, group, [topic], **{"group.instance.id": "stays", "session.timeout.ms": 20_000})
    leaves = Member(target, group, [topic], **{"group.instance.id": "leaves", "session.timeout.ms": 20_000})
    eventually(lambda: len(stays.places()) == 3 and len(leaves.places()) == 3, "three partitions each", 30)
    had, before = leaves.places(), len(stays.assignments)
    leaves.stop()
    again = Member(target, group, [topic], **{"group.instance.id": "leaves", "session.timeout.ms": 20_000})
    eventually(lambda: again.places() == had, "the partitions that it had", 20)
    assert len(stays.assignments) == before, f"the other member was disturbed: {stays.assignments[before:]}"
    for each in (stays, again):
        each.stop()


@suite.case
def an_instance_id_belongs_to_the_last_that_claims_it(target):
    topic, group = create(target, "fenced", PARTITIONS), fresh("g")
    config = {"group.instance.id": "one"}
    first = Member(target, group, [topic], **config)
    eventually(lambda: len(first.places()) == PARTITIONS, "an assignment", 30)
    second = Member(target, group, [topic], **config)
    eventually(lambda: len(second.places()) == PARTITIONS, "an assignment for the second", 30)
    eventually(lambda: any(error.code() == KafkaError._FATAL for error in first.errors), "the first is fenced", 30)
    second.stop()


@suite.case
def C22_the_metadata_of_a_commit_comes_back(target):
    topic, group = create(target, "metadata", 1), fresh("g")
    write(target, topic, numbered(10))
    client = member(target, group)
    client.assign([TopicPartition(topic, 0)])
    client.commit(offsets=[TopicPartition(topic, 0, 7, metadata="größe ✓", leader_epoch=0)], asynchronous=False)
    (found,) = client.committed([TopicPartition(topic, 0)], timeout=10)
    assert (found.offset, found.metadata) == (7, "größe ✓"), found
    (absent,) = member(target, fresh("other")).committed([TopicPartition(topic, 0)], timeout=10)
    assert absent.offset < 0, absent
    try:
        client.commit(offsets=[TopicPartition(topic, 0, 8, metadata="x" * 5000)], asynchronous=False)
        raise AssertionError("5,000 bytes of metadata were taken")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.OFFSET_METADATA_TOO_LARGE, error


@suite.case
def pause_and_seek_by_time(target):
    topic, group = create(target, "seek", 1), fresh("g")
    base = int(time.time() * 1000) - 100_000
    producer = Producer({"bootstrap.servers": target})
    for number in range(100):
        producer.produce(topic, value=str(number).encode(), partition=0, timestamp=base + number * 1000)
    producer.flush(15)
    client = member(target, group)
    client.subscribe([topic])
    assert client.poll(20).value() == b"0"
    place = TopicPartition(topic, 0)
    client.pause([place])
    while client.poll(0.2) is not None:
        pass
    (at,) = client.offsets_for_times([TopicPartition(topic, 0, base + 50_000)], timeout=10)
    client.seek(TopicPartition(topic, 0, at.offset))
    assert client.poll(0.5) is None, "a paused partition gave a record"
    client.resume([place])
    assert client.poll(20).value() == b"50"
    client.close()


@suite.case
def administration_of_groups(target):
    client = admin(target)
    topic, group = create(target, "admin", PARTITIONS), fresh("g")
    fill(target, topic, 10)
    worker = Member(target, group, [topic], **{"client.id": "worker"})
    eventually(lambda: len(worker.seen) == 60 and worker.committed == 60, "everything read and committed", 30)
    described = client.describe_consumer_groups([group])[group].result(10)
    assert (described.state, described.partition_assignor) == (ConsumerGroupState.STABLE, "range"), vars(described)
    (only,) = described.members
    assert only.client_id == "worker" and len(only.assignment.topic_partitions) == PARTITIONS, vars(only)
    listed = {each.group_id: each for each in client.list_consumer_groups().result(10).valid}
    assert listed[group].state == ConsumerGroupState.STABLE, listed[group]
    wanted = ConsumerGroupTopicPartitions(group)
    offsets = client.list_consumer_group_offsets([wanted])[group].result(10).topic_partitions
    assert sorted((place.partition, place.offset) for place in offsets) == [(n, 10) for n in range(PARTITIONS)], offsets
    assert code_of(client.delete_consumer_groups([group])[group]) == KafkaError.NON_EMPTY_GROUP
    reset = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])
    busy = client.alter_consumer_group_offsets([reset])[group]
    assert code_of(busy) == KafkaError.UNKNOWN_MEMBER_ID or any(place.error for place in busy.result(0).topic_partitions)
    worker.stop()
    eventually(lambda: client.describe_consumer_groups([group])[group].result(10).state == ConsumerGroupState.EMPTY, "an empty group")
    client.alter_consumer_group_offsets([reset])[group].result(10)
    (found,) = [place for place in client.list_consumer_group_offsets([wanted])[group].result(10).topic_partitions if place.partition == 0]
    assert found.offset == 3, found
    client.delete_consumer_groups([group])[group].result(10)
    assert group not in {each.group_id for each in client.list_consumer_groups().result(10).valid}
    assert code_of(client.delete_consumer_groups([group])[group]) == KafkaError.GROUP_ID_NOT_FOUND


def code_of(future):
    try:
        future.result(15)
    except KafkaException as error:
        return error.args[0].code()
    return None


@suite.case
def a_topic_that_is_deleted_takes_its_offsets_along(target):
    topic, group = create(target, "gone", 1), fresh("g")
    write(target, topic, numbered(5))
    client = member(target, group)
    client.commit(offsets=[TopicPartition(topic, 0, 5)], asynchronous=False)
    admin(target).delete_topics([topic])[topic].result(15)
    wanted = ConsumerGroupTopicPartitions(group)
    eventually(lambda: not admin(target).list_consumer_group_offsets([wanted])[group].result(10).topic_partitions, "no offsets")


@suite.case
def many_groups(target):
    """200 groups commit and are listed."""
    topic, groups = create(target, "many", 1), [fresh(f"m{number}") for number in range(200)]
    for number, group in enumerate(groups):
        client = member(target, group)
        client.commit(offsets=[TopicPartition(topic, 0, number)], asynchronous=False)
        client.close()
    listed = {each.group_id for each in admin(target).list_consumer_groups().result(20).valid}
    assert set(groups) <= listed, f"{len(set(groups) - listed)} groups are missing"
    for number in (0, 77, 199):
        wanted = ConsumerGroupTopicPartitions(groups[number])
        (place,) = admin(target).list_consumer_group_offsets([wanted])[groups[number]].result(10).topic_partitions
        assert place.offset == number, place


@suite.case
def five_hundred_topics(target):
    topics = [fresh("wide") for _ in range(500)]
    made = admin(target).create_topics([NewTopic(topic, 1, 1) for topic in topics])
    for future in made.values():
        future.result(30)
    producer = Producer({"bootstrap.servers": target})
    for topic in topics:
        producer.produce(topic, value=topic.encode())
    assert producer.flush(30) == 0, "not everything was written"
    reader = Member(target, fresh("g"), topics)
    eventually(lambda: len(reader.seen) == len(topics), "a record of every topic", 60)
    reader.stop()
    assert all(topic.encode() == value for topic, _, _, value in reader.seen), "a topic gave what belongs to another"
    assert reader.committed == len(topics)
    for future in admin(target).delete_topics(topics).values():
        future.result(30)


for each in aio.CASES:
    suite.case(each)


@suite.case
def a_kafka_python_member(target):
    topic, group = create(target, "py", PARTITIONS), fresh("g")
    written = fill(target, topic, 100)
    config = {"bootstrap_servers": target, "group_id": group, "auto_offset_reset": "earliest", "enable_auto_commit": False, "consumer_timeout_ms": 8000}
    client = KafkaConsumer(topic, **config)
    seen = set()
    for record in client:
        seen.add((record.partition, record.value))
        if seen == written:
            break
    assert seen == written, f"{len(seen)} of {len(written)} records"
    client.commit()
    client.close()
    wanted = ConsumerGroupTopicPartitions(group)
    offsets = admin(target).list_consumer_group_offsets([wanted])[group].result(10).topic_partitions
    assert sorted((place.partition, place.offset) for place in offsets) == [(n, 100) for n in range(PARTITIONS)], offsets


if __name__ == "__main__":
    suite.main()
