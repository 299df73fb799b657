"""What the group suite writes for its members to read: the same numbers into every partition, or a load that goes on."""

import threading
import time

from confluent_kafka import Producer

from harness.rdkafka import write
from harness.records import Record

PARTITIONS = 6


def numbered(count, start=0):
    return [Record(None, str(number).encode()) for number in range(start, start + count)]


def fill(target, topic, each, partitions=PARTITIONS):
    """The same numbers into every partition; returns what is there as (partition, value)."""
    for partition in range(partitions):
        write(target, topic, numbered(each), partition)
    return {(partition, str(number).encode()) for partition in range(partitions) for number in range(each)}


class Load(threading.Thread):
    """Writes numbers round the partitions until it is stopped; `acknowledged` holds (partition, value)."""

    def __init__(self, target, topic):
        super().__init__(daemon=True)
        self.client = Producer({"bootstrap.servers": target, "linger.ms": 5, "enable.idempotence": True})
        self.topic, self.acknowledged, self.stopping = topic, set(), threading.Event()
        self.start()

    def run(self):
        number = 0
        while not self.stopping.is_set():
            partition, value = number % PARTITIONS, str(number).encode()
            note = lambda error, message: None if error else self.acknowledged.add((message.partition(), message.value()))
            self.client.produce(self.topic, value=value, partition=partition, on_delivery=note)
            self.client.poll(0)
            number += 1
            time.sleep(0.0005)
        self.client.flush(20)

    def stop(self):
        self.stopping.set()
        self.join(25)
