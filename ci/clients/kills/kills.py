"""Kill -9 under load: writers go on over all restarts, and every acknowledged record must be there once, in order, at its offset.

    kills.py --broker PROGRAM [--cycles 20] [--cores 1,unbound:3] [--seed N]
    kills.py --kafka [--cycles 5]             the same against Apache Kafka, to try the harness itself

Before that the ledger shows that it finds planted faults. Each restart is followed by a look at what is new, every seventh by a look at the
whole log, and so is the end. Groups commit meanwhile, and what they were answered must be what the broker holds. Idempotent writers may leave neither a gap nor a duplicate; the plain one (acks=1) may repeat itself, but loses nothing that was acknowledged.
"""

import argparse
import contextlib
import pathlib
import random
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

import tools  # noqa: E402
from committer import Committer  # noqa: E402
from confluent_kafka.admin import NewTopic  # noqa: E402
from harness import rdkafka  # noqa: E402
from harness.broker import Broker, Kafka  # noqa: E402
from harness.suite import eventually, fresh  # noqa: E402
from ledger import PLAIN_DUPLICATES, WITHOUT_OFFSET, Ledger, prove  # noqa: E402
from reading import Reading  # noqa: E402
from writer import Writer  # noqa: E402

IDEMPOTENT_WRITERS = 8
GROUPS = 3
RUN_MS = (20, 2000)
FIRST_ACK_SECONDS_MAX = 60.0
WHOLE_EVERY_CYCLES = 7
SMALL, LARGE = (1, 2000), (100_000, 300_000)


def writers_for(target, topic, seed):
    """Eight idempotent writers, one of them with large records, and a plain one, each on a partition of its own."""
    sizes = [SMALL] * (IDEMPOTENT_WRITERS - 1) + [LARGE, SMALL]
    return [
        Writer(target, topic, partition, partition < IDEMPOTENT_WRITERS, size, seed + partition) for partition, size in enumerate(sizes)
    ]


def first_ack(writers, started):
    """Seconds from then to the first acknowledgement that any writer gets from now on."""
    for writer in writers:
        writer.first_ack_at = None

    def acknowledged():
        failed = [writer.failure for writer in writers if writer.failure]
        assert not failed, f"a writer gave up: {failed[0]}"
        times = [writer.first_ack_at for writer in writers if writer.first_ack_at]
        return min(times) if times else None

    return eventually(acknowledged, "an acknowledgement after the restart", FIRST_ACK_SECONDS_MAX) - started


class Story:
    """Writers on a topic of a broker that is killed over and over, and the ledger of what they were promised."""

    def __init__(self, broker, layouts, chance, allowed):
        self.broker, self.layouts, self.chance = broker, layouts, chance
        self.waits = []
        broker.start(*layouts[:1])
        topic = fresh("kills")
        rdkafka.admin(broker.target).create_topics([NewTopic(topic, IDEMPOTENT_WRITERS + 1, 1)])[topic].result(15)
        self.writers = writers_for(broker.target, topic, chance.randrange(1 << 30))
        self.ledger = Ledger(self.writers, allowed)
        self.reading = Reading(broker.target, topic, self.ledger)
        self.committers = [Committer(broker.target, topic, partition, fresh("kills")) for partition in range(GROUPS)]

    @contextlib.contextmanager
    def writing(self):
        """The writers run inside; each must have got everything acknowledged afterwards."""
        for writer in self.writers + self.committers:
            writer.start()
        try:
            yield
        finally:
            for writer in self.writers + self.committers:
                writer.stopping = True
        for writer in self.writers + self.committers:
            writer.join()
        for writer in self.writers:
            assert not writer.failure, f"writer {writer.partition} gave up: {writer.failure}"

    def tell(self, cycles):
        with self.writing():
            first_ack(self.writers, time.monotonic())
            for cycle in range(cycles):
                self.cycle(cycle, self.layouts[cycle * len(self.layouts) // cycles :][:1])
        self.reading.check_from_the_start()

    def rest(self, resting):
        """The writers send nothing new while the log is read: how much they write must not depend on how long that takes."""
        for writer in self.writers:
            writer.resting = resting
        for committer in self.committers:
            committer.rest(resting)

    def cycle(self, number, layout):
        time.sleep(self.chance.randint(*RUN_MS) / 1000)
        self.broker.kill()
        promised = sum(self.ledger.acknowledged_counts())
        started = time.monotonic()
        self.broker.start(*layout)
        self.waits.append(first_ack(self.writers, started))
        looking = time.monotonic()
        self.rest(True)
        for committer in self.committers:
            committer.check()
        whole = (number + 1) % WHOLE_EVERY_CYCLES == 0
        self.reading.check_from_the_start() if whole else self.reading.check()
        self.rest(False)
        print(
            f"    kill {number + 1}: {promised} acknowledged before it, first ack after {self.waits[-1] * 1000:.0f} ms, "
            f"{'the whole log' if whole else 'what is new'} read in {time.monotonic() - looking:.1f} s", flush=True,
        )

    def told(self):
        p50, p99 = (percentile(self.waits, share) * 1000 for share in (0.5, 0.99)) if self.waits else (0, 0)
        acknowledged = sum(self.ledger.acknowledged_counts())
        return (
            f"{len(self.waits)} kills, {acknowledged} acknowledged, {sum(self.ledger.compared_count)} of them compared: "
            f"{self.ledger.told()}; {sum(each.commits for each in self.committers)} commits answered, none forgotten; first ack after a restart p50 {p50:.0f} ms, p99 {p99:.0f} ms"
        )


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--broker", type=pathlib.Path)
    which.add_argument("--kafka", action="store_true")
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--cores", default="1,unbound:3", help="layouts, taken in turn over the cycles")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    arguments = parser.parse_args()
    print(f"  the ledger found {prove()} planted faults; kills with seed {arguments.seed}", flush=True)
    if arguments.kafka:
        broker, layouts, allowed = Kafka(tools.kafka_jars()), [], (PLAIN_DUPLICATES, WITHOUT_OFFSET)
    else:
        broker, layouts, allowed = Broker(arguments.broker, "kills"), arguments.cores.split(","), (PLAIN_DUPLICATES,)
    return run(broker, layouts, random.Random(arguments.seed), allowed, arguments.cycles)


def run(broker, layouts, chance, allowed, cycles):
    story = None
    try:
        story = Story(broker, layouts, chance, allowed)
        story.tell(cycles)
        broker.stop()
    except Exception as error:
        print(f"  FAIL kills: {type(error).__name__}: {error}", flush=True)
        return 1
    finally:
        if story:
            print(f"  {story.told()}", flush=True)
        if broker.alive():
            broker.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
