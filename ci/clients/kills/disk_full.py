"""A disk that a neighbour fills: writing is refused first, everything else goes on, and writing resumes by itself.

    disk_full.py --broker PROGRAM [--cores 1,unbound:3]

The data directory lies on a small ext4 of its own, in a file that is mounted through a loop device; that takes root. Nothing that was
acknowledged may be lost, also when the broker is killed on the full disk and starts there again. Where nothing can be mounted the exit code is 77.
"""

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

from confluent_kafka import KafkaError, Producer, TopicPartition  # noqa: E402
from harness import rdkafka  # noqa: E402
from harness.broker import SCRATCH, Broker  # noqa: E402
from harness.records import Record, difference  # noqa: E402
from harness.suite import eventually  # noqa: E402

DISK_BYTES = 1536 << 20
LEFT_BYTES = 48 << 20
RESUME_SECONDS_MAX = 30.0


CANNOT_MOUNT = 77


def run(*arguments):
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)


def mount(image, folder):
    """Mounts the image, or ends the process with a code that says that this machine does not let us."""
    done = subprocess.run(["mount", "-o", "loop", str(image), str(folder)], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        print(f"  note nothing can be mounted here: {done.stderr.strip()}", flush=True)
        sys.exit(CANNOT_MOUNT)


@contextlib.contextmanager
def small_disk(name):
    """A mounted file system of its own; gone afterwards."""
    image, folder = SCRATCH / f"{name}.img", SCRATCH / f"{name}.mounted"
    SCRATCH.mkdir(parents=True, exist_ok=True)
    subprocess.run(["umount", "--lazy", str(folder)], stderr=subprocess.DEVNULL, check=False)
    image.unlink(missing_ok=True)
    folder.mkdir(exist_ok=True)
    with open(image, "wb") as made:
        made.truncate(DISK_BYTES)
    run("mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", str(image))
    mount(image, folder)
    try:
        yield folder
    finally:
        run("umount", "--lazy", str(folder))
        image.unlink()


class Neighbour:
    """Somebody else's file on the same disk."""

    def __init__(self, folder):
        self.path = folder / "neighbour"

    def fill(self):
        """Takes everything but a little."""
        room = os.statvfs(self.path.parent)
        bytes_free = room.f_bavail * room.f_frsize - LEFT_BYTES
        run("fallocate", "--length", str(max(bytes_free, 4096)), str(self.path))

    def leave(self):
        self.path.unlink()


def error_of(target, topic, value):
    """What a producer that does not try again is told; None when the record was acknowledged."""
    told = []
    client = Producer({"bootstrap.servers": target, "retries": 0, "message.timeout.ms": 8000, "log_level": 0})
    client.produce(topic, value=value, partition=0, on_delivery=lambda error, _: told.append(error))
    client.flush(10)
    return told[0].code() if told and told[0] else None


def expect_all(target, topic, records, first=0):
    found = rdkafka.read(target, topic, len(records) - first, 0, first)
    wrong = difference(records[first:], [record for _, record in found])
    assert wrong is None, wrong


class Story:
    def __init__(self, broker, neighbour):
        self.broker, self.neighbour = broker, neighbour
        self.written = []

    def write(self, count):
        more = [Record(None, str(len(self.written) + number).encode() * 20) for number in range(count)]
        rdkafka.write(self.broker.target, self.topic, more)
        self.written += more

    def tell(self, what):
        print(f"  ok   disk-full/{what}", flush=True)

    def run(self):
        target = self.broker.target
        self.topic, other = rdkafka.create(target, "kept", 1), rdkafka.create(target, "other", 1)
        self.write(2000)
        rdkafka.write(target, other, [Record(None, b"x" * 1000)] * 1000)
        self.neighbour.fill()
        refused = eventually(lambda: error_of(target, self.topic, b"no room"), "a refusal", 30)
        assert refused == KafkaError.KAFKA_STORAGE_ERROR, f"the refusal is {refused}"
        self.tell("writing is refused")
        expect_all(target, self.topic, self.found_so_far())
        self.tell("reading goes on")
        (deleted,) = rdkafka.admin(target).delete_records([TopicPartition(self.topic, 0, 500)]).values()
        assert deleted.result(15).low_watermark == 500
        rdkafka.admin(target).delete_topics([other])[other].result(15)
        self.tell("deleting goes on")
        self.broker.kill()
        self.broker.start()
        expect_all(target, self.topic, self.found_so_far(), 500)
        self.tell("a start on the full disk keeps everything")
        self.neighbour.leave()
        started = time.monotonic()
        eventually(lambda: error_of(target, self.topic, b"room again") is None, "an acknowledgement", RESUME_SECONDS_MAX)
        self.tell(f"writing resumes by itself {time.monotonic() - started:.1f} s after there is room")
        self.broker.kill()
        self.broker.start()
        expect_all(target, self.topic, self.found_so_far(), 500)
        self.broker.stop()
        self.tell("nothing that was acknowledged is lost")

    def found_so_far(self):
        """The records, and whatever probe was acknowledged before the disk was full or after."""
        end = rdkafka.log_bounds(rdkafka.consumer(self.broker.target), self.topic, 0)[1]
        found = [record for _, record in rdkafka.read(self.broker.target, self.topic, end - 500, 0, 500)]
        probes = {b"no room", b"room again"}
        assert [record for record in found if record.value not in probes] == self.written[500:], "a record is missing or out of place"
        return self.written[:500] + found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", type=pathlib.Path, required=True)
    parser.add_argument("--cores", default="1,unbound:3")
    arguments = parser.parse_args()
    for cores in arguments.cores.split(","):
        name = f"disk-full-{cores.replace(':', '-')}"
        with small_disk(name) as folder:
            broker = Broker(arguments.broker, name, cores, ["num.partitions=1"])
            broker.data = folder / "data"
            try:
                print(f"  broker with --cores {cores} ready in {broker.start():.2f} s", flush=True)
                Story(broker, Neighbour(folder)).run()
            except BaseException:
                print(broker.log_end(), flush=True)
                raise
            finally:
                if broker.alive():
                    broker.kill()


if __name__ == "__main__":
    main()
