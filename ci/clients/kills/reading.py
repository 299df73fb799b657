"""Reads on in the partitions of a ledger, up to where they end now."""

import time

from confluent_kafka import TopicPartition

from harness import rdkafka

SECONDS_MAX = 60.0


class Reading:
    """Keeps the ledger of one topic up to date."""

    def __init__(self, target, topic, ledger):
        self.target, self.topic, self.ledger = target, topic, ledger

    def check(self):
        """Reads what is new; every acknowledgement that came before that must be in the log by then."""
        promised = self.ledger.acknowledged_counts()
        self.read_on()
        self.ledger.compare(promised)
        self.ledger.expect_whole()

    def check_from_the_start(self):
        """Reads and compares all of it once more."""
        self.ledger.forget()
        self.check()

    def read_on(self):
        reader = rdkafka.consumer(self.target)
        try:
            self.read_to(reader, [rdkafka.log_bounds(reader, self.topic, partition)[1] for partition in range(len(self.ledger.writers))])
        finally:
            reader.close()

    def read_to(self, reader, ends):
        at = self.ledger.next_offset
        for partition, end in enumerate(ends):
            assert end >= at[partition], f"partition {partition} ends at {end}, but was read to {at[partition]}"
        reader.assign([TopicPartition(self.topic, partition, offset) for partition, offset in enumerate(at)])
        deadline = time.monotonic() + SECONDS_MAX
        while any(offset < end for offset, end in zip(at, ends)):
            assert time.monotonic() < deadline, f"read to {at} of {ends} and no further"
            for message in reader.consume(1000, 0.2):
                assert message.error() is None, message.error()
                self.ledger.note(message.partition(), message.offset(), message.value())
