"""Asks two brokers the same administrative questions and prints where the answers differ.

    compare.py --broker PROGRAM      Watershed beside Apache Kafka, both started here

First some fifty questions through librdkafka, most of them bad ones: error codes must be equal, messages that differ are printed for a
person to judge. Then every answer of Java's AdminClient, field by field: each difference must be one that EXPLAINED names, and each
explanation must still be needed. FINDINGS.md beside this file says more of them.
"""

import argparse
import pathlib
import re
import subprocess
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[index]) for index in (1, 2)]

import tools  # noqa: E402
from confluent_kafka import KafkaException, TopicPartition  # noqa: E402
from confluent_kafka.admin import (  # noqa: E402
    AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType,
)
from harness import rdkafka  # noqa: E402
from harness.broker import Broker, Kafka  # noqa: E402

TOPIC = "com_pared"
NEW_TOPICS = {
    "no partitions": NewTopic("none", 0, 1),
    "many negative": NewTopic("negative", -5, 1),
    "replication 3": NewTopic("replicated", 1, 3),
    "replication 0": NewTopic("replicated", 1, 0),
    "empty name": NewTopic("", 1, 1),
    "dot": NewTopic(".", 1, 1),
    "dots": NewTopic("..", 1, 1),
    "bad character": NewTopic("a/b", 1, 1),
    "too long": NewTopic("x" * 250, 1, 1),
    "exists": NewTopic(TOPIC, 1, 1),
    "collides": NewTopic("com.pared", 1, 1),
    "unknown config": NewTopic("configured", 1, 1, config={"no.such.config": "1"}),
    "bad number": NewTopic("configured", 1, 1, config={"retention.ms": "many"}),
    "below the range": NewTopic("configured", 1, 1, config={"retention.ms": "-2"}),
    "bad choice": NewTopic("configured", 1, 1, config={"message.timestamp.type": "Yesterday"}),
    "bad list": NewTopic("configured", 1, 1, config={"cleanup.policy": "burn"}),
    "bad boolean": NewTopic("configured", 1, 1, config={"preallocate": "maybe"}),
    "bad double": NewTopic("configured", 1, 1, config={"min.cleanable.dirty.ratio": "2"}),
    "bad codec": NewTopic("configured", 1, 1, config={"compression.type": "rar"}),
    "bad assignment": NewTopic("assigned", replica_assignment=[[1], [9]]),
}
CHANGES = {
    "unknown": ("no.such.config", "1", AlterConfigOpType.SET),
    "bad number": ("retention.ms", "many", AlterConfigOpType.SET),
    "below the range": ("retention.ms", "-2", AlterConfigOpType.SET),
    "too large": ("segment.bytes", "99999999999", AlterConfigOpType.SET),
    "too small": ("segment.bytes", "1", AlterConfigOpType.SET),
    "bad choice": ("message.timestamp.type", "Yesterday", AlterConfigOpType.SET),
    "append to a number": ("retention.ms", "5", AlterConfigOpType.APPEND),
    "subtract from a number": ("retention.ms", "5", AlterConfigOpType.SUBTRACT),
    "append what is there": ("cleanup.policy", "delete", AlterConfigOpType.APPEND),
    "append nonsense": ("cleanup.policy", "burn", AlterConfigOpType.APPEND),
    "subtract what is not there": ("cleanup.policy", "compact", AlterConfigOpType.SUBTRACT),
    "delete what is not set": ("retention.ms", None, AlterConfigOpType.DELETE),
    "delete unknown": ("no.such.config", None, AlterConfigOpType.DELETE),
    "set": ("retention.ms", "777", AlterConfigOpType.SET),
}
RESOURCES = {
    "absent topic": ConfigResource(ResourceType.TOPIC, "absent"),
    "bad topic name": ConfigResource(ResourceType.TOPIC, "a/b"),
    "absent broker": ConfigResource(ResourceType.BROKER, "77"),
    "broker that is no number": ConfigResource(ResourceType.BROKER, "one"),
}

# What differs on purpose in the answers of Java's AdminClient: `question<TAB>field`, and why.
EXPLAINED = (
    (r"(createTopics|describeConfigs topic)\t(flush\.messages|min\.insync\.replicas)", "the default is 1 here, Kafka is told so; Kafka sets min.insync.replicas by itself"),
    (r"describeConfigs brokers\t(error|min\.insync\.replicas)", "Kafka sets min.insync.replicas by itself when it is formatted"),
    (r"(createTopics|describeConfigs topic)\t(retention|segment|segment\.jitter)\.ms", "the default's own layer is told, in whatever unit it is; Kafka tells it only behind one in milliseconds"),
    (r"describeConfigs broker\t((advertised\.)?listeners|listener\.security\.protocol\.map|controller\..*|log\.dirs?|process\.roles|(broker|node)\.id)", "another address, directory and role"),
    (r"describeConfigs broker\t(.*\.min\.isr|.*\.replication\.factor|log\.flush\.interval\.messages|min\.insync\.replicas)", "defaults for one broker that flushes; Kafka is told so"),
    (r"describeConfigs broker\t(background\.threads|num\..*|log\.cleaner\.threads|max\.connections|ssl\..*|sasl\..*)", "Kafka can change its pools and its security while it runs"),
    (r"describeConfigs broker\t(group\..*|offset\.metadata\.max\.bytes|offsets\.retention\.minutes)", "limits of groups can be changed while the broker runs here"),
    (r"describeConfigs broker\tproducer\.id\.expiration\.check\.interval\.ms", "an internal property of Kafka, which may be given"),
    (r"describeConfigs client metrics\t.*", "subscriptions to metrics of clients are not served"),
    (r"alter broker unknown\terror", "an unknown property is refused, Kafka keeps it and warns"),
    (r"alter group\terror", "configurations of groups that are not served are refused"),
    (r"listConfigResources( groups)?\tall", "so no group has a configuration; loggers cannot be changed by clients"),
    (r"alterClientQuotas address\t.*", "quotas on the connections of an address are not served"),
    (r"describeMetadataQuorum\tepoch", "the metadata log never has another leader: its epoch is 0"),
    (r"deleteConsumerGroups\terror", "a group that holds nothing is gone at once, in Kafka at the next look for expired offsets"),
    (r"describeFeatures\t.*", "no feature is finalized that a client would act on"),
    (r"describe(Acls|DelegationToken)\t.*", "security is not served yet"),
)


def outcome(ask):
    """What a question comes to: `ok`, or code and message."""
    try:
        (future,) = ask().values()
        future.result(10)
        return "ok", ""
    except TimeoutError:
        return "no answer", ""
    except KafkaException as error:
        return error.args[0].name(), error.args[0].str()
    except ValueError as error:
        return "refused by the client", str(error)


def create(admin, topic):
    """Creates a topic that has to be."""
    code, text = outcome(lambda: admin.create_topics([topic]))
    assert code == "ok", text


def changed(name, value, operation):
    return ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[ConfigEntry(name, value, incremental_operation=operation)])


def questions(admin):
    """Each question with what it comes to, in an order that both brokers get."""
    create(admin, NewTopic(TOPIC, 2, 1))
    for what, topic in NEW_TOPICS.items():
        yield f"create: {what}", outcome(lambda topic=topic: admin.create_topics([topic]))
    for what, change in CHANGES.items():
        yield f"alter: {what}", outcome(lambda change=change: admin.incremental_alter_configs([changed(*change)]))
    for what, resource in RESOURCES.items():
        yield f"describe: {what}", outcome(lambda resource=resource: admin.describe_configs([resource]))
        entry = ConfigEntry("retention.ms", "5", incremental_operation=AlterConfigOpType.SET)
        altered = ConfigResource(resource.restype, resource.name, incremental_configs=[entry])
        yield f"alter: {what}", outcome(lambda altered=altered: admin.incremental_alter_configs([altered]))
    for what, partitions in {"fewer": NewPartitions(TOPIC, 1), "as many": NewPartitions(TOPIC, 2), "absent": NewPartitions("absent", 3)}.items():
        yield f"partitions: {what}", outcome(lambda partitions=partitions: admin.create_partitions([partitions]))
    for what, place in {"beyond the end": (TOPIC, 0, 99), "absent topic": ("absent", 0, 0), "absent partition": (TOPIC, 99, 0)}.items():
        yield f"delete records: {what}", outcome(lambda place=place: admin.delete_records([TopicPartition(*place)]))
    yield "list offsets: absent", outcome(lambda: admin.list_offsets({TopicPartition("absent", 0): OffsetSpec.latest()}))
    yield "delete: absent", outcome(lambda: admin.delete_topics(["absent"]))


def described(admin):
    """(value, source, read only, sensitive) of each configuration of a topic that sets one."""
    create(admin, NewTopic("described", 1, 1, config={"retention.ms": "99"}))
    resource = ConfigResource(ResourceType.TOPIC, "described")
    configs = admin.describe_configs([resource])[resource].result(20)
    return {name: (entry.value, entry.source, entry.is_read_only, entry.is_sensitive) for name, entry in configs.items()}


def differences(ours, theirs):
    """Prints them; returns how many codes differ."""
    wrong = asked = 0
    for (what, (our_code, our_text)), (_, (code, text)) in zip(questions(ours), questions(theirs), strict=True):
        asked += 1
        if our_code != code:
            wrong += 1
            print(f"CODE    {what}\n    ours   {our_code}: {our_text}\n    Kafka  {code}: {text}")
        elif our_text != text:
            print(f"message {what} ({code})\n    ours   {our_text}\n    Kafka  {text}")
    ours, theirs = described(ours), described(theirs)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            print(f"config  {name}\n    ours   {ours.get(name)}\n    Kafka  {theirs.get(name)}")
    print(f"{asked} questions, {wrong} answered with another code; {len(theirs)} configurations of a topic compared")
    return wrong


def answers(target):
    """The fields of every answer of Java's AdminClient: the values by `question<TAB>field`."""
    command = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-cp", tools.java_driver(), "Answers", target]
    told = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=300, check=True)
    fields = {}
    for line in told.stdout.splitlines():
        question, field, value = line.split("\t")
        fields.setdefault(f"{question}\t{field}", []).append(value)
    return fields


def unexplained(ours, theirs):
    """Prints the fields that differ without an explanation, and explanations that nothing needs; returns how many."""
    wrong, needed = 0, set()
    for field in sorted(ours.keys() | theirs.keys()):
        has_no_meaning_here = field.startswith("describeConfigs broker\t") and field not in ours
        if ours.get(field) == theirs.get(field) or has_no_meaning_here:
            continue
        why = next((pattern for pattern, _ in EXPLAINED if re.fullmatch(pattern, field)), None)
        needed.add(why)
        if why is None:
            wrong += 1
            print(f"ANSWER  {field}\n    ours   {ours.get(field)}\n    Kafka  {theirs.get(field)}")
    for pattern, reason in EXPLAINED:
        if pattern not in needed:
            wrong += 1
            print(f"IDLE    nothing differs any more in {pattern} ({reason})")
    print(f"{len(theirs)} fields of Java's AdminClient compared, {wrong} unexplained")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", type=pathlib.Path, required=True)
    started = [Broker(parser.parse_args().broker, "compared", "unbound:1")]
    try:
        started[0].start()
        started.append(Kafka(tools.kafka_jars()))  # it takes ports that are free by now
        started[1].start()
        broker, kafka = started
        wrong = unexplained(answers(broker.target), answers(kafka.target))
        return 1 if differences(rdkafka.admin(broker.target), rdkafka.admin(kafka.target)) + wrong else 0
    finally:
        for process in started:
            if process.alive():
                process.kill()


if __name__ == "__main__":
    sys.exit(main())
