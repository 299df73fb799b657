"""Kill -9 under load: writers go on over all restarts, and every acknowledged record must be there once, in order, at its offset.

    kills.py --broker PROGRAM [--cycles 20] [--cores 1,unbound:3] [--seed N]
    kills.py --kafka [--cycles 5]             the same against Apache Kafka, to try the harness itself

Idempotent writers may leave neither a gap nor a duplicate; the plain one (acks=1) may repeat itself, but loses nothing that was acknowledged.
"""

import argparse
import pathlib
import random
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

import tools  # noqa: E402
from confluent_kafka.admin import NewTopic  # noqa: E402
from harness import rdkafka  # noqa: E402
from harness.broker import Broker, Kafka  # noqa: E402
from harness.suite import eventually, fresh  # noqa: E402
from ledger import Ledger  # noqa: E402
from writer import Writer  # noqa: E402

IDEMPOTENT_WRITERS = 8
RUN_MS = (20, 2000)
FIRST_ACK_SECONDS_MAX = 60.0
SMALL, LARGE = (1, 2000), (100_000, 300_000)


def writers_for(target, topic, seed):
    """Eight idempotent writers, one of them with large records, and a plain one, each on a partition of its own."""
    sizes = [SMALL] * (IDEMPOTENT_WRITERS - 1) + [LARGE, SMALL]
    return [
        Writer(target, topic, partition, partition < IDEMPOTENT_WRITERS, size, seed + partition) for partition, size in enumerate(sizes)
    ]


def first_ack(writers, since, started):
    """Seconds from the start of the process to the first acknowledgement that any writer got from it."""

    def acknowledged():
        failed = [writer.failure for writer in writers if writer.failure]
        assert not failed, f"a writer gave up: {failed[0]}"
        times = [writer.last_ack_at for writer in writers if writer.last_ack_at > since]
        return min(times) if times else None

    return eventually(acknowledged, "an acknowledgement after the restart", FIRST_ACK_SECONDS_MAX) - started


def run_cycles(broker, layouts, cycles, chance):
    """Kills and restarts; returns the ledger and the seconds to the first acknowledgement of each restart."""
    broker.start(*layouts[:1])
    topic = fresh("kills")
    rdkafka.admin(broker.target).create_topics([NewTopic(topic, IDEMPOTENT_WRITERS + 1, 1)])[topic].result(15)
    writers = writers_for(broker.target, topic, chance.randrange(1 << 30))
    ledger = Ledger(broker.target, topic, writers)
    for writer in writers:
        writer.start()
    waits = []
    try:
        first_ack(writers, 0.0, time.monotonic())
        for cycle in range(cycles):
            time.sleep(chance.randint(*RUN_MS) / 1000)
            broker.kill()
            killed, promised = time.monotonic(), [writer.acknowledged_count() for writer in writers]
            layout = layouts[cycle * len(layouts) // cycles :][:1]
            started = time.monotonic()
            broker.start(*layout)
            waits.append(first_ack(writers, killed, started))
            ledger.check()
            print(f"    cycle {cycle + 1}: {sum(promised)} acknowledged before the kill, first ack after {waits[-1] * 1000:.0f} ms", flush=True)
    finally:
        for writer in writers:
            writer.stopping = True
    for writer in writers:
        writer.join()
        assert not writer.failure, f"writer {writer.partition} gave up: {writer.failure}"
    return ledger, waits


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
    print(f"  kills with seed {arguments.seed}", flush=True)
    broker = Kafka(tools.kafka_jars()) if arguments.kafka else Broker(arguments.broker, "kills")
    layouts = [] if arguments.kafka else arguments.cores.split(",")
    try:
        ledger, waits = run_cycles(broker, layouts, arguments.cycles, random.Random(arguments.seed))
        ledger.check_from_the_start()
        broker.stop()
    except Exception as error:
        print(f"  FAIL kills, seed {arguments.seed}: {type(error).__name__}: {error}", flush=True)
        return 1
    finally:
        if broker.alive():
            broker.kill()
    print(
        f"  {arguments.cycles} kills, {ledger.acknowledged_count()} acknowledged records: lost 0, out of place 0, "
        f"idempotent duplicates 0, plain duplicates {ledger.plain_duplicates}; first ack after restart "
        f"p50 {percentile(waits, 0.5) * 1000:.0f} ms, p99 {percentile(waits, 0.99) * 1000:.0f} ms",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
