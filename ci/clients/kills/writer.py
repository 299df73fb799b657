"""A producer that writes numbered records for as long as it is let, over every restart of the broker, and remembers what was promised to it."""

import random
import threading
import time

from confluent_kafka import Producer

QUEUE_RECORDS_MAX = 300
QUEUE_KBYTES_MAX = 4096


class Writer(threading.Thread):
    """Writes to one partition; `promised[number]` is the offset at which a record was acknowledged."""

    def __init__(self, target, topic, partition, idempotent, sizes, seed):
        super().__init__(daemon=True)
        self.topic, self.partition, self.idempotent, self.sizes = topic, partition, idempotent, sizes
        self.chance = random.Random(seed)
        self.promised = {}
        self.stopping = False
        self.failure = None
        self.last_ack_at = 0.0
        self.producer = Producer({
            "bootstrap.servers": target, "enable.idempotence": idempotent, "acks": "all" if idempotent else 1,
            "linger.ms": 2, "message.timeout.ms": 300_000, "socket.timeout.ms": 10_000, "request.timeout.ms": 10_000,
            "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20, "retry.backoff.max.ms": 100,
            "queue.buffering.max.messages": QUEUE_RECORDS_MAX, "queue.buffering.max.kbytes": QUEUE_KBYTES_MAX,
            "batch.num.messages": 50, "log_level": 0, "error_cb": self.on_error,
        })

    def on_error(self, error):
        if error.fatal():
            self.failure = f"fatal: {error}"

    def acknowledged_count(self):
        return len(self.promised)

    def run(self):
        number = 0
        while not self.stopping and not self.failure:
            try:
                self.producer.produce(self.topic, self.content(number), partition=self.partition, on_delivery=self.on_delivery(number))
                number += 1
            except BufferError:
                self.producer.poll(0.01)
            self.producer.poll(0)
            if number % 20 == 0:
                time.sleep(0.002)
        left = self.producer.flush(60)
        if left and not self.failure:
            self.failure = f"{left} records were never acknowledged"

    def content(self, number):
        """The number and a filling that follows from it, so that a reader can check both."""
        return filled(self.partition, number, self.chance.randint(*self.sizes))

    def on_delivery(self, number):
        def delivered(error, message):
            if error:
                self.failure = self.failure or f"record {number}: {error}"
            else:
                self.promised[number] = message.offset()
                self.last_ack_at = time.monotonic()

        return delivered


def filled(partition, number, size):
    head = f"{partition}:{number}:{size}:".encode()
    return head + bytes([(number * 7 + partition) % 251]) * size


def parsed(value):
    """(partition, number) of a record; fails unless every byte is as written."""
    partition, number, size = (int(part) for part in value[:64].split(b":")[:3])
    assert value == filled(partition, number, size), f"the content of record {number} of writer {partition} was changed"
    return partition, number
