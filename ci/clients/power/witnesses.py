"""Writers and committers that remember where the disk's log stood when each of their acknowledgements came."""

import bisect

from committer import Committer
from confluent_kafka import Consumer, TopicPartition
from writer import Writer

SMALL, LARGE = (1, 2000), (70_000, 300_000)


class WitnessWriter(Writer):
    """`positions` holds, for each acknowledgement, how long the log was when it was heard of: what was promised is in the log before that."""

    def __init__(self, disk, *arguments):
        super().__init__(*arguments)
        self.disk, self.positions = disk, []

    def on_delivery(self, number):
        heard = super().on_delivery(number)

        def delivered(error, message):
            heard(error, message)
            if not error:
                self.positions.append(self.disk.position())

        return delivered

    def acknowledged_by(self, position):
        """How many acknowledgements came before the log was that long."""
        return bisect.bisect_right(self.positions, position)


class WitnessCommitter(Committer):
    """`answers` holds (position of the log, number) of each commit that was answered."""

    def __init__(self, disk, target, topic, partition, group):
        super().__init__(target, topic, partition, group)
        self.disk, self.group, self.answers = disk, group, []

    def answer(self, number):
        super().answer(number)
        self.answers.append((self.disk.position(), number))

    def promised_by(self, position):
        """The last commit that was answered before the log was that long, or 0."""
        at = bisect.bisect_right(self.answers, (position, self.tried + 1))
        return self.answers[at - 1][1] if at else 0

    def check_at(self, target, position):
        """What a broker on the disk of that moment holds is what was promised, or a later try."""
        asker = Consumer({"bootstrap.servers": target, "group.id": self.group, "log_level": 0})
        try:
            (found,) = asker.committed([TopicPartition(*self.place)], timeout=30)
        finally:
            asker.close()
        promised = self.promised_by(position)
        if promised == 0 and found.offset < 0:
            return
        assert promised <= found.offset <= self.tried, f"{self.group}: {found.offset} is held, {promised} was promised, {self.tried} tried"
        assert found.metadata == f"m{found.offset}", f"{self.group}: {found.metadata} stands beside {found.offset}"


def writers_for(disk, target, topic, seed):
    """Three idempotent writers, one of them with large records, and a plain one, each on a partition of its own."""
    sizes = (SMALL, SMALL, LARGE, SMALL)
    return [WitnessWriter(disk, target, topic, partition, partition < 3, size, seed + partition) for partition, size in enumerate(sizes)]
