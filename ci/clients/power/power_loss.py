"""Power loss at the level of blocks: a broker runs on a disk that writes down every write and flush, and is then started on what each moment may have left.

    power_loss.py --broker PROGRAM [--states 20] [--seconds 6] [--fs ext4|xfs] [--cores 1,unbound:3] [--seed N]

Half of the states lie exactly at a flush, with nothing of what came later; the others between two flushes, with a random part of the writes
since the last one, torn at sectors. On each the file system is mounted and a broker started: every record and commit that was acknowledged before
that moment must be there, in order, once. A file system that cannot be mounted is counted apart. Where no such disk can be built the exit code is 77.
"""

import argparse
import pathlib
import random
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "kills"), str(HERE.parent), str(HERE.parent.parent)]

from confluent_kafka.admin import NewTopic  # noqa: E402
from disk import DamagedFileSystem, LoggedDisk, Unmountable, mounted  # noqa: E402
from harness import rdkafka  # noqa: E402
from harness.broker import Broker  # noqa: E402
from harness.records import Record  # noqa: E402
from harness.suite import fresh  # noqa: E402
from ledger import PLAIN_DUPLICATES, Ledger, prove  # noqa: E402
from reading import Reading  # noqa: E402
from states import CrashStates, WriteLog  # noqa: E402
from witnesses import WitnessCommitter, writers_for  # noqa: E402

CANNOT_MOUNT = 77
IMAGE_BYTES = 768 << 20
UNSURE_MIN = 2
SETTINGS = ("num.partitions=1", "offsets.topic.num.partitions=2")


class Recording:
    """A broker's life on a logged disk: two starts, a kill between them, a clean end; and who was promised what, when."""

    def __init__(self, program, cores, disk, seconds, chance):
        self.cores, self.disk, self.seconds, self.chance = cores, disk, seconds, chance
        self.broker = Broker(program, f"power-{cores.replace(':', '-')}", cores, SETTINGS)

    def run(self):
        with self.disk.mounted() as folder:
            self.broker.data = folder / "data"
            try:
                self.live()
            finally:
                if self.broker.alive():
                    self.broker.kill()

    def live(self):
        self.broker.start()
        target = self.broker.target
        self.topic = fresh("power")
        rdkafka.admin(target).create_topics([NewTopic(self.topic, 4, 1)])[self.topic].result(15)
        self.writers = writers_for(self.disk, target, self.topic, self.chance.randrange(1 << 30))
        self.committers = [WitnessCommitter(self.disk, target, self.topic, partition, fresh("power")) for partition in range(2)]
        everyone = self.writers + self.committers
        for each in everyone:
            each.start()
        time.sleep(self.seconds / 2)
        self.broker.kill()
        self.broker.start()
        other = rdkafka.create(target, "removed", 3)
        rdkafka.write(target, other, [Record(None, b"x" * 1000)] * 200)
        rdkafka.admin(target).delete_topics([other])[other].result(15)
        time.sleep(self.seconds / 2)
        for each in everyone:
            each.stopping = True
        for each in everyone:
            each.join()
        for writer in self.writers:
            assert not writer.failure, f"writer {writer.partition} gave up: {writer.failure}"
        self.broker.stop()


class Judge:
    """Starts a broker on each crash state and compares what it holds with what had been promised by then."""

    def __init__(self, recording, program, folder):
        self.recording, self.folder = recording, folder
        self.broker = Broker(program, recording.broker.folder.name + "-state", recording.cores, SETTINGS)
        self.compared = self.commits = 0
        self.waits = []

    def judge(self, image, position):
        with mounted(image, self.folder / "state-mounted") as folder:
            self.broker.data = folder / "data"
            try:
                self.waits.append(self.broker.start())
                self.compare(position)
            finally:
                if self.broker.alive():
                    self.broker.kill()

    def compare(self, position):
        target, writers = self.broker.target, self.recording.writers
        promised = [writer.acknowledged_by(position) for writer in writers]
        if not self.holds_topic(target):
            assert not any(promised), f"the topic is not there, {sum(promised)} records were promised"
            return
        ledger = Ledger(writers, (PLAIN_DUPLICATES,))
        Reading(target, self.recording.topic, ledger).read_on()
        ledger.compare(promised)
        ledger.expect_whole()
        for committer in self.recording.committers:
            committer.check_at(target, position)
            self.commits += bool(committer.promised_by(position))
        self.compared += sum(promised)

    def holds_topic(self, target):
        return self.recording.topic in rdkafka.consumer(target).list_topics(timeout=15).topics


def positions(log, count, chance):
    """Moments in order: at flushes, and between them where several writes are not flushed yet."""
    at_flushes = chance.sample(log.flushes, min(count - count // 2, len(log.flushes)))
    between = chance.choices(log.amid(UNSURE_MIN), k=count // 2)
    return sorted([(place, False) for place in at_flushes] + [(place, True) for place in between])


def prove_judge(judge, image, end):
    """A disk that forgot everything since an early moment must be found out."""
    try:
        judge.judge(image, end)
    except (AssertionError, DamagedFileSystem):
        return
    raise RuntimeError("nothing was said of a disk that forgot most of its writes")


def run(arguments, cores, chance):
    disk = LoggedDisk(f"power-disk-{cores.replace(':', '-')}", arguments.fs, IMAGE_BYTES)
    recording = Recording(arguments.broker, cores, disk, arguments.seconds, chance)
    started = time.monotonic()
    recording.run()
    log = WriteLog(disk.log)
    acknowledged = sum(len(writer.acknowledged) for writer in recording.writers)
    commits = sum(committer.commits for committer in recording.committers)
    print(
        f"  recorded with --cores {cores} on {arguments.fs} in {time.monotonic() - started:.1f} s: {len(log.writes)} writes, {len(log.flushes)} flushes, "
        f"{log.end >> 20} MiB; {acknowledged} records and {commits} commits acknowledged", flush=True,
    )
    states, judge = CrashStates(log, disk.base, disk.folder), Judge(recording, arguments.broker, disk.folder)
    unmountable = unsure = 0
    moments = positions(log, arguments.states, chance)
    prove_judge(judge, states.at(moments[0][0], None)[0], log.end)
    for position, between in moments:
        image, count = states.at(position, chance if between else None)
        unsure += count if between else 0
        try:
            judge.judge(image, position)
        except DamagedFileSystem as error:
            unmountable += 1
            print(f"  note at {position}: {error}", flush=True)
        except Exception as error:
            raise AssertionError(f"state at {position} of {log.end} ({'between' if between else 'at'} flushes): {error}\n{judge.broker.log_end()}") from error
    waits = sorted(judge.waits)
    print(
        f"  ok   power-loss/{cores}: {len(waits)} states whole, {judge.compared} promises of records and {judge.commits} of commits compared, {unsure} unflushed writes "
        f"kept in part; ready p50 {waits[len(waits) // 2] * 1000:.0f} ms; {unmountable} file systems not mountable", flush=True,
    )
    assert len(waits) > unmountable, "too few states could be mounted to say anything"
    disk.remove()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", type=pathlib.Path, required=True)
    parser.add_argument("--states", type=int, default=20, help="for each number of cores")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--fs", choices=("ext4", "xfs"), default="ext4")
    parser.add_argument("--cores", default="1,unbound:3")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    arguments = parser.parse_args()
    print(f"  the ledger found {prove()} planted faults; power loss with seed {arguments.seed}", flush=True)
    try:
        for cores in arguments.cores.split(","):
            run(arguments, cores, random.Random(arguments.seed))
    except Unmountable as reason:
        print(f"  note {reason}", flush=True)
        return CANNOT_MOUNT
    except Exception as error:
        print(f"  FAIL power-loss: {type(error).__name__}: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
