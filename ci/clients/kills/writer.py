"""A producer that writes numbered records for as long as it is let, over every restart of the broker, and remembers every acknowledgement."""

import random
import threading
import time

from confluent_kafka import Producer

QUEUE_RECORDS_MAX = 300
QUEUE_KBYTES_MAX = 4096
RUN_RECORDS, RUN_BYTES = 10, 100_000
PAUSE_SECONDS = 0.01
BYTES_PER_SECOND_MAX = 4e6


class Writer(threading.Thread):
    """Writes to one partition; `acknowledged` holds (number, offset) in the order of the acknowledgements."""

    def __init__(self, target, topic, partition, idempotent, sizes, seed):
        super().__init__(daemon=True)
        self.topic, self.partition, self.idempotent, self.sizes = topic, partition, idempotent, sizes
        self.chance = random.Random(seed)
        self.acknowledged = []
        self.stopping = False
        self.resting = False
        self.failure = None
        self.first_ack_at = None
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

    def run(self):
        number = 0
        while not self.stopping and not self.failure:
            count, sent_bytes = (0, 0) if self.resting else self.send_run(number)
            number += count
            self.producer.poll(0)
            time.sleep(PAUSE_SECONDS + sent_bytes / BYTES_PER_SECOND_MAX)
        left = self.producer.flush(60)
        if left and not self.failure:
            self.failure = f"{left} records were never acknowledged"

    def send_run(self, first):
        """Sends records from that number on until a pause is due or the queue is full; returns how many, and their bytes."""
        count = sent_bytes = 0
        while count < RUN_RECORDS and sent_bytes < RUN_BYTES:
            content = filled(self.partition, first + count, self.chance.randint(*self.sizes))
            try:
                self.producer.produce(self.topic, content, partition=self.partition, on_delivery=self.on_delivery(first + count))
            except BufferError:
                break
            count += 1
            sent_bytes += len(content)
        return count, sent_bytes

    def on_delivery(self, number):
        def delivered(error, message):
            if error:
                self.failure = self.failure or f"record {number}: {error}"
            else:
                self.acknowledged.append((number, message.offset()))
                self.first_ack_at = self.first_ack_at or time.monotonic()

        return delivered


def filled(partition, number, size):
    """The number and a filling that follows from it, so that a reader can check both."""
    head = f"{partition}:{number}:{size}:".encode()
    return head + bytes([(number * 7 + partition) % 251]) * size


def parsed(value):
    """(partition, number) of a record; a ValueError unless every byte is as written."""
    partition, number, size = (int(part) for part in value[:64].split(b":")[:3])
    if value != filled(partition, number, size):
        raise ValueError(f"the content of record {number} of writer {partition} was changed")
    return partition, number
