"""Compares what the log holds with what its writers were promised."""

import time

from confluent_kafka import TopicPartition

from harness import rdkafka
from writer import parsed

READ_SECONDS_MAX = 120.0


class Ledger:
    """What was read so far of each partition; `check` reads on from there."""

    def __init__(self, target, topic, writers):
        self.target, self.topic, self.writers = target, topic, writers
        self.forget()

    def forget(self):
        self.next_offset = [0] * len(self.writers)
        self.places = [{} for _ in self.writers]
        self.plain_duplicates = 0

    def acknowledged_count(self):
        return sum(writer.acknowledged_count() for writer in self.writers)

    def check(self):
        """Reads all that is new and expects every promise made before that to be kept."""
        promises = [dict(list(writer.promised.items())) for writer in self.writers]
        self.read_on()
        for writer, promised in zip(self.writers, promises):
            self.check_promises(writer, promised)

    def check_from_the_start(self):
        """Reads the whole log once more."""
        self.forget()
        self.check()

    def read_on(self):
        reader = rdkafka.consumer(self.target)
        ends = [rdkafka.log_bounds(reader, self.topic, writer.partition)[1] for writer in self.writers]
        for writer, end in zip(self.writers, ends):
            assert end >= self.next_offset[writer.partition], f"partition {writer.partition} ends at {end}, but was read to {self.next_offset[writer.partition]}"
        reader.assign([TopicPartition(self.topic, writer.partition, self.next_offset[writer.partition]) for writer in self.writers])
        deadline = time.monotonic() + READ_SECONDS_MAX
        while any(at < end for at, end in zip(self.next_offset, ends)):
            assert time.monotonic() < deadline, f"read to {self.next_offset} of {ends} and no further"
            for message in reader.consume(1000, 0.5):
                assert message.error() is None, message.error()
                self.note(message)
        reader.close()

    def note(self, message):
        partition, number = parsed(message.value())
        assert partition == message.partition(), f"a record of writer {partition} is in partition {message.partition()}"
        assert message.offset() == self.next_offset[partition], f"partition {partition}: offset {message.offset()} after {self.next_offset[partition] - 1}"
        self.next_offset[partition] += 1
        places = self.places[partition]
        if self.writers[partition].idempotent:
            assert number == len(places), f"partition {partition}: record {number} at {message.offset()}, expected record {len(places)}"
        elif number in places:
            self.plain_duplicates += 1
        places.setdefault(number, set()).add(message.offset())

    def check_promises(self, writer, promised):
        """An offset below 0 was not told: librdkafka's way to say that the broker only knew that the record is there."""
        places = self.places[writer.partition]
        for number, offset in promised.items():
            assert number in places, f"writer {writer.partition}: record {number}, acknowledged at {offset}, is lost"
            assert offset in places[number] or offset < 0, f"writer {writer.partition}: record {number}, acknowledged at {offset}, is at {places[number]}"
