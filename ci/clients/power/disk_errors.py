"""A disk that fails or waits under a running broker: nothing is acknowledged that is not there afterwards, and the process says what it does.

    disk_errors.py --broker PROGRAM [--sites 4] [--fs ext4|xfs] [--cores 1] [--seed N]

For each site, one write or one flush of the disk fails, later each time. The broker must end with the exit code for failed storage and name the
file; on the healed disk it starts again, its writers go on, and every acknowledged record is there once, in order. If only the file system's
own block failed and the broker was told nothing, it may go on. Then a disk that holds every flush for a while: nobody gives up, nothing is
lost, memory stays where it was. Where no such disk can be built the exit code is 77.
"""

import argparse
import collections
import pathlib
import random
import re
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "kills"), str(HERE.parent), str(HERE.parent.parent)]

from confluent_kafka.admin import NewTopic  # noqa: E402
from disk import LoggedDisk, Unmountable  # noqa: E402
from harness import rdkafka  # noqa: E402
from harness.broker import Broker, resident_bytes  # noqa: E402
from harness.suite import eventually, fresh  # noqa: E402
from ledger import PLAIN_DUPLICATES, Ledger, prove  # noqa: E402
from reading import Reading  # noqa: E402
from witnesses import writers_for  # noqa: E402

CANNOT_MOUNT = 77
IMAGE_BYTES = 768 << 20
STORAGE_FAILED = 5
SKIP_MAX = 400
NOTICE_SECONDS_MAX = 20.0
STALLS = (("flush 0 40 50", 50), ("flush 0 10 500", 500), ("flush 0 1 5000", 5000))
GROWTH_BYTES_MAX = 256 << 20


class Life:
    """A broker with writers on one logged disk, and what they were promised."""

    def __init__(self, program, cores, disk, seed):
        self.disk = disk
        self.broker = Broker(program, "disk-errors", cores, ("num.partitions=1",))
        self.seed = seed
        self.writers = []

    def start(self, folder):
        self.broker.data = folder / "data"
        self.broker.start()
        if not self.writers:
            target, topic = self.broker.target, fresh("errors")
            rdkafka.admin(target).create_topics([NewTopic(topic, 4, 1)])[topic].result(15)
            self.writers = writers_for(self.disk, target, topic, self.seed)
            self.ledger = Ledger(self.writers, (PLAIN_DUPLICATES,))
            self.reading = Reading(target, topic, self.ledger)
            for writer in self.writers:
                writer.start()
        before = self.acknowledged()
        eventually(lambda: self.acknowledged() > before, "an acknowledgement", 30)

    def acknowledged(self):
        return sum(self.ledger.acknowledged_counts())

    def end(self):
        """Lets the writers come to an end and compares everything."""
        for writer in self.writers:
            writer.stopping = True
        for writer in self.writers:
            writer.join()
            assert not writer.failure, f"writer {writer.partition} gave up: {writer.failure}"
        self.reading.check_from_the_start()
        self.broker.stop()

    def leave(self):
        for writer in self.writers:
            writer.stopping = True
        if self.broker.alive():
            self.broker.kill()


def ended_or_met(life):
    """True when the broker ended; None while the failure is still to come."""
    if not life.broker.alive():
        return "ended"
    return "met" if life.disk.met().exists() else None


def fail_once(life, rule):
    """One life with that failure in it; returns what the broker made of it."""
    with life.disk.mounted() as folder:
        life.start(folder)
        life.disk.impose(rule)
        eventually(lambda: ended_or_met(life), f"the disk was never asked for `{rule}`", NOTICE_SECONDS_MAX)
        deadline = time.monotonic() + 3
        while life.broker.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        noticed = not life.broker.alive()
        if noticed:
            code = life.broker.process.wait()
            told = life.broker.log_end()
            assert code == STORAGE_FAILED, f"`{rule}`: the broker ended with {code}: {told}"
            assert re.search(r"(write|flush|open|truncat|director|read|renam|remov|allocat)", told), f"`{rule}`: the log names no operation: {told}"
        else:
            life.broker.kill()
        life.disk.heal()
    life.disk.repair()
    with life.disk.mounted() as folder:
        life.start(folder)
        time.sleep(0.3)
        life.end()
    return noticed


def errors(arguments, chance):
    seen = collections.Counter()
    for site in range(arguments.sites):
        operation = ("write", "flush")[site % 2]
        rule = f"{operation} {chance.randint(0, SKIP_MAX)} 1 fail"
        life = Life(arguments.broker, arguments.cores, LoggedDisk("error-disk", arguments.fs, IMAGE_BYTES), chance.randrange(1 << 30))
        try:
            seen[operation, fail_once(life, rule)] += 1
        finally:
            life.leave()
        life.disk.remove()
    ends = {True: "the broker ended", False: "the file system alone noticed"}
    told = ", ".join(f"{operation} failed, {ends[noticed]}: {count}" for (operation, noticed), count in sorted(seen.items()))
    assert any(noticed for _, noticed in seen), "no failure reached the broker"
    print(f"  ok   disk-errors: {told}; nothing acknowledged was lost", flush=True)


def stalls(arguments, chance):
    life = Life(arguments.broker, arguments.cores, LoggedDisk("slow-disk", arguments.fs, IMAGE_BYTES), chance.randrange(1 << 30))
    try:
        with life.disk.mounted() as folder:
            life.start(folder)
            time.sleep(1)
            before = resident_bytes(life.broker.pid)
            for rule, wait_ms in STALLS:
                life.disk.impose(rule)
                eventually(lambda: life.disk.met().exists(), f"`{rule}` was never used up", 60)
                acknowledged = life.acknowledged()
                eventually(lambda: life.acknowledged() > acknowledged, f"an acknowledgement after flushes of {wait_ms} ms", 30)
                life.disk.heal()
            grown = resident_bytes(life.broker.pid) - before
            assert grown < GROWTH_BYTES_MAX, f"memory grew by {grown >> 20} MiB while the disk was slow"
            life.end()
    finally:
        life.leave()
    print(f"  ok   disk-errors/slow: flushes of 50, 500 and 5000 ms; {life.acknowledged()} acknowledged, all there; memory grew by {grown >> 20} MiB", flush=True)
    life.disk.remove()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", type=pathlib.Path, required=True)
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--fs", choices=("ext4", "xfs"), default="ext4")
    parser.add_argument("--cores", default="1")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    arguments = parser.parse_args()
    print(f"  the ledger found {prove()} planted faults; disk errors with seed {arguments.seed}", flush=True)
    chance = random.Random(arguments.seed)
    try:
        errors(arguments, chance)
        stalls(arguments, chance)
    except Unmountable as reason:
        print(f"  note {reason}", flush=True)
        return CANNOT_MOUNT
    except Exception as error:
        print(f"  FAIL disk-errors: {type(error).__name__}: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
