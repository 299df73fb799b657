"""Compares what the log holds with what its writers were promised, and counts every difference.

The ledger itself touches no network, so that it can be shown to find what it must find: `prove` plants each fault in a small log.
"""

import collections
import types

from writer import filled, parsed

EXAMPLES_MAX = 5
LOST, OUT_OF_PLACE, DUPLICATES, OUT_OF_ORDER = "lost", "out of place", "idempotent duplicates", "out of order"
HOLES, CHANGED, WITHOUT_OFFSET, PLAIN_DUPLICATES = "holes", "changed", "acknowledged without an offset", "plain duplicates"
KINDS = (LOST, OUT_OF_PLACE, DUPLICATES, OUT_OF_ORDER, HOLES, CHANGED, WITHOUT_OFFSET, PLAIN_DUPLICATES)


class Ledger:
    """What was read so far of each writer's partition, and which of its acknowledgements were compared with that."""

    def __init__(self, writers, allowed=(PLAIN_DUPLICATES,)):
        self.writers, self.allowed = writers, allowed
        self.forget()

    def forget(self):
        """Starts over, as if nothing had been read or compared."""
        self.next_offset = [0] * len(self.writers)
        self.next_number = [0] * len(self.writers)
        self.places = [{} for _ in self.writers]
        self.compared_count = [0] * len(self.writers)
        self.counts = collections.Counter()
        self.examples = []

    def acknowledged_counts(self):
        return [len(writer.acknowledged) for writer in self.writers]

    def found(self, kind, what):
        self.counts[kind] += 1
        if kind not in self.allowed and len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{kind}: {what}")

    def note(self, partition, offset, value):
        """Takes the next record of a partition."""
        if offset != self.next_offset[partition]:
            self.found(HOLES, f"partition {partition} has offset {offset} where {self.next_offset[partition]} comes next")
        self.next_offset[partition] = offset + 1
        try:
            writer, number = parsed(value or b"")
        except ValueError as error:
            self.found(CHANGED, f"partition {partition}, offset {offset}: {error}")
            return
        if writer != partition:
            self.found(CHANGED, f"a record of writer {writer} is in partition {partition} at {offset}")
            return
        self.note_number(partition, offset, number)

    def note_number(self, partition, offset, number):
        places = self.places[partition]
        if number in places:
            kind = DUPLICATES if self.writers[partition].idempotent else PLAIN_DUPLICATES
            self.found(kind, f"record {number} of writer {partition} is at {places[number][0]} and at {offset}")
        elif self.writers[partition].idempotent and number != self.next_number[partition]:
            self.found(OUT_OF_ORDER, f"record {number} of writer {partition} is at {offset}, where {self.next_number[partition]} comes next")
        self.next_number[partition] = max(self.next_number[partition], number + 1)
        places[number] = (*places.get(number, ()), offset)

    def compare(self, until_counts):
        """Compares the acknowledgements, up to those counts, that were not compared yet."""
        for partition, (writer, until) in enumerate(zip(self.writers, until_counts)):
            for number, offset in writer.acknowledged[self.compared_count[partition] : until]:
                self.compare_one(partition, number, offset)
            self.compared_count[partition] = max(until, self.compared_count[partition])

    def compare_one(self, partition, number, offset):
        """An offset below 0 was not told: librdkafka's way to say that the broker only knew that the record is there."""
        places = self.places[partition].get(number)
        if offset < 0:
            self.found(WITHOUT_OFFSET, f"record {number} of writer {partition}")
        if places is None:
            self.found(LOST, f"record {number} of writer {partition}, acknowledged at {offset}")
        elif offset >= 0 and offset not in places:
            self.found(OUT_OF_PLACE, f"record {number} of writer {partition}, acknowledged at {offset}, is at {places[0]}")

    def expect_whole(self):
        if self.examples:
            raise AssertionError(f"{self.told()}; " + "; ".join(self.examples))

    def told(self):
        """Every count in words."""
        return ", ".join(f"{kind} {self.counts[kind]}" for kind in KINDS)


def proof_ledger(change=lambda log, acknowledged: None):
    """A ledger of an idempotent and a plain writer of ten records each, read and compared after `change` had its way with both sides."""
    log = [(partition, offset, filled(partition, offset, 50)) for partition in (0, 1) for offset in range(10)]
    acknowledged = [[(number, number) for number in range(10)] for _ in (0, 1)]
    change(log, acknowledged)
    writers = [types.SimpleNamespace(idempotent=partition == 0, acknowledged=acknowledged[partition]) for partition in (0, 1)]
    ledger = Ledger(writers)
    for entry in log:
        ledger.note(*entry)
    ledger.compare(ledger.acknowledged_counts())
    return ledger


def replaced(place, partition, offset, number, writer=0):
    def change(log, _):
        log[place] = (partition, offset, filled(writer, number, 50))

    return change


def swapped(log, _):
    log[3:5] = [(0, 3, filled(0, 4, 50)), (0, 4, filled(0, 3, 50))]


def acknowledged_elsewhere(_, acknowledged):
    acknowledged[0][5] = (5, 6)


def acknowledged_nowhere(_, acknowledged):
    acknowledged[1][5] = (5, -1001)


def damaged(log, _):
    partition, offset, value = log[7]
    log[7] = (partition, offset, value[:-1] + b"\xff")


PLANTED = (
    ("the last record is not there", lambda log, _: log.pop(9), {LOST: 1}),
    ("the last plain record is not there", lambda log, _: log.pop(), {LOST: 1}),
    ("a record in the middle is not there", lambda log, _: log.pop(4), {LOST: 1, HOLES: 1, OUT_OF_ORDER: 1}),
    ("a record is there twice, instead of the next", replaced(9, 0, 9, 8), {DUPLICATES: 1, LOST: 1}),
    ("a record more", lambda log, _: log.insert(10, (0, 10, filled(0, 9, 50))), {DUPLICATES: 1}),
    ("a plain record is there twice", lambda log, _: log.append((1, 10, filled(1, 9, 50))), {PLAIN_DUPLICATES: 1}),
    ("acknowledged at another offset", acknowledged_elsewhere, {OUT_OF_PLACE: 1}),
    ("acknowledged without an offset", acknowledged_nowhere, {WITHOUT_OFFSET: 1}),
    ("two records have changed places", swapped, {OUT_OF_ORDER: 2, OUT_OF_PLACE: 2}),
    ("an offset is left out", lambda log, _: log.insert(10, (0, 11, filled(0, 10, 50))), {HOLES: 1}),
    ("a byte is another", damaged, {CHANGED: 1, LOST: 1, OUT_OF_ORDER: 1}),
    ("a record of another writer", replaced(9, 0, 9, 9, writer=1), {CHANGED: 1, LOST: 1}),
)


def prove():
    """Shows that a whole log passes and that each planted fault is counted as what it is, and fails unless it may be there."""
    proof_ledger().expect_whole()
    for what, change, expected in PLANTED:
        ledger = proof_ledger(change)
        assert dict(ledger.counts) == expected, f"{what}: counted {dict(ledger.counts)}, not {expected}"
        if set(expected) == {PLAIN_DUPLICATES}:
            ledger.expect_whole()
            continue
        try:
            ledger.expect_whole()
        except AssertionError:
            continue
        raise AssertionError(f"{what}: nothing was said")
    return len(PLANTED)
