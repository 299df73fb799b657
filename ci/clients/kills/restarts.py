"""Clean restarts: everything is still there after SIGTERM, and after a start with another number of shards.

    restarts.py --broker PROGRAM
"""

import argparse
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from confluent_kafka import Producer, TopicCollection, TopicPartition  # noqa: E402
from confluent_kafka.admin import ConfigResource, ResourceType  # noqa: E402
from harness import rdkafka  # noqa: E402
from harness.broker import Broker  # noqa: E402
from harness.records import assorted, difference  # noqa: E402

PARTITIONS = 6
LAYOUTS = ("1", "1", "unbound:3", "unbound:2", "1")
DELETED_BEFORE = 20


class Story:
    """A topic that every layout adds to, one cut at the start, one deleted, and a producer that lives through it all."""

    def __init__(self, broker):
        self.broker = broker
        self.written = [[] for _ in range(PARTITIONS)]
        self.sent_count = 0

    def begin(self):
        target = self.broker.target
        self.topic = rdkafka.create(target, "restart", PARTITIONS, {"retention.ms": "86400000"})
        self.cut = rdkafka.create(target, "restart-cut", 1)
        self.gone = rdkafka.create(target, "restart-gone", 2)
        rdkafka.write(target, self.gone, assorted("gone"))
        rdkafka.write(target, self.cut, assorted("cut"))
        (deleted,) = rdkafka.admin(target).delete_records([TopicPartition(self.cut, 0, DELETED_BEFORE)]).values()
        deleted.result(15)
        rdkafka.admin(target).delete_topics([self.gone])[self.gone].result(15)
        self.topic_id = self.described().topic_id
        self.producer = Producer({"bootstrap.servers": target, "enable.idempotence": True, "reconnect.backoff.max.ms": 200, "log_level": 0})
        self.steady = rdkafka.create(target, "restart-steady", 1)

    def described(self):
        return rdkafka.admin(self.broker.target).describe_topics(TopicCollection([self.topic]))[self.topic].result(15)

    def go_on(self, chapter):
        """Adds records everywhere, by new producers and by the one that lives on."""
        for partition in range(PARTITIONS):
            records = assorted(f"chapter {chapter}, partition {partition}")
            offsets = rdkafka.write(self.broker.target, self.topic, records, partition, **{"enable.idempotence": True})
            first = len(self.written[partition])
            assert offsets == list(range(first, first + len(records))), f"partition {partition} goes on at {offsets[0]}, not {first}"
            self.written[partition] += records
        self.send_steadily()

    def send_steadily(self):
        offsets, errors = [], []
        for _ in range(50):
            self.producer.produce(
                self.steady, b"steady", partition=0,
                on_delivery=lambda error, message: errors.append(error) if error else offsets.append(message.offset()),
            )
        assert self.producer.flush(30) == 0 and not errors, f"the producer that lives on: {errors[:1]}"
        assert offsets == list(range(self.sent_count, self.sent_count + 50)), f"the producer that lives on got {offsets[:3]}, not {self.sent_count}"
        self.sent_count += 50

    def check(self):
        target = self.broker.target
        for partition, records in enumerate(self.written):
            found = rdkafka.read(target, self.topic, len(records), partition)
            assert [offset for offset, _ in found] == list(range(len(records))), f"offsets of partition {partition}"
            wrong = difference(records, [record for _, record in found])
            assert wrong is None, f"partition {partition}: {wrong}"
        reader = rdkafka.consumer(target)
        assert rdkafka.log_bounds(reader, self.cut, 0) == (DELETED_BEFORE, len(assorted("cut"))), "the bounds of the cut topic"
        topics = rdkafka.admin(target).list_topics(timeout=10).topics
        assert self.gone not in topics, "a deleted topic is back"
        assert len(topics[self.topic].partitions) == PARTITIONS, topics[self.topic].partitions
        assert str(self.described().topic_id) == str(self.topic_id), "the topic has another id"
        resource = ConfigResource(ResourceType.TOPIC, self.topic)
        configs = rdkafka.admin(target).describe_configs([resource])[resource].result(15)
        assert configs["retention.ms"].value == "86400000", "the topic lost its configuration"


def tell(broker):
    story = Story(broker)
    broker.start(LAYOUTS[0])
    story.begin()
    story.go_on(0)
    for chapter, layout in enumerate(LAYOUTS[1:], 1):
        started = time.monotonic()
        broker.stop()
        stopped = time.monotonic()
        ready = broker.start(layout)
        story.check()
        story.go_on(chapter)
        story.check()
        print(f"  ok   restart with --cores {layout}: stopped in {stopped - started:.2f} s, ready in {ready:.2f} s", flush=True)
    broker.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", type=pathlib.Path, required=True)
    broker = Broker(parser.parse_args().broker, "restarts")
    try:
        tell(broker)
    except Exception as error:
        print(f"  FAIL restart with --cores {broker.cores}: {type(error).__name__}: {error}", flush=True)
        return 1
    finally:
        if broker.alive():
            broker.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
