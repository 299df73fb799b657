"""Damage to a data directory: whatever byte is another, the broker refuses with a reason, mends it, or serves only what was written.

    flips.py --broker PROGRAM [--flips 40] [--seed N]

A directory with several segments, an image and a ring is left by a kill. Each trial damages one place of a copy: a bit, a byte, a sector of
zeros, a block from elsewhere, a cut, or two files changed for each other, in each kind of file in turn. Then a broker is started on it twice: a
batch that it serves must be the batch that was written at that offset, byte for byte; if it serves less than was acknowledged, it must have
said so: by refusing to start (the file named), by an error for that offset, or in its log.
"""

import argparse
import collections
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

from harness import rdkafka, wire  # noqa: E402
from harness.broker import SCRATCH, Broker  # noqa: E402
from harness.suite import eventually  # noqa: E402
from harness.wire import Connection, batch, fetch, produce, produced  # noqa: E402

PARTITIONS = 3
BATCHES = 260
LARGE_EVERY, LARGE_BYTES = 12, 180_000
DIRECTORY_DAMAGED_CODES = (3, 4, 5, 6)
REGIONS = ("superblock", "anchor", "ring", "images", "segments")
DAMAGES = ("bit", "byte", "zeros", "block", "cut", "swap")
SECTOR_BYTES, BLOCK_BYTES = 512, 4096
FETCH_BYTES = 4 << 20
LOG_HEAD = struct.Struct(">qi")


def region_files(data, region):
    """Files of that kind, those with content first looked at."""
    return sorted(path for path in data.rglob("*") if path.is_file() and path.stat().st_size and region in str(path.relative_to(data)))


def used_places(path):
    """Blocks that are not all zeros."""
    content = path.read_bytes()
    zero = bytes(BLOCK_BYTES)
    return [at for at in range(0, len(content), BLOCK_BYTES) if content[at : at + BLOCK_BYTES] != zero[: len(content) - at]]


def overwrite(path, at, content):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(content)


def damage(data, region, kind, chance):
    """Damages one place and says what was done; None where that kind of damage cannot be done there."""
    files = [path for path in region_files(data, region) if used_places(path)]
    path = chance.choice(files)
    at = chance.choice(used_places(path))
    old = path.read_bytes()[at : at + BLOCK_BYTES]
    used = [place for place, byte in enumerate(old) if byte] or [0]
    place = chance.choice(used) if chance.random() < 0.8 else chance.randrange(len(old))
    sector = place // SECTOR_BYTES * SECTOR_BYTES
    if kind == "bit":
        overwrite(path, at + place, bytes([old[place] ^ 1 << chance.randrange(8)]))
    elif kind == "byte":
        overwrite(path, at + place, bytes([(old[place] + chance.randint(1, 255)) % 256]))
    elif kind == "zeros":
        overwrite(path, at + sector, bytes(min(SECTOR_BYTES, len(old) - sector)))
    elif kind == "block":
        other = chance.choice(used_places(chance.choice(files)))
        overwrite(path, at, path.read_bytes()[other : other + len(old)] or bytes(len(old)))
    elif kind == "cut":
        with open(path, "r+b") as file:
            file.truncate(at + sector)
    else:
        return swap(path, [each for each in files if each != path], chance)
    return f"{kind} in {path.relative_to(data)} at {at + (place if kind in ('bit', 'byte') else 0)}"


def swap(path, others, chance):
    if not others:
        return None
    other = chance.choice(others)
    aside = path.with_name("aside")
    path.rename(aside)
    other.rename(path)
    aside.rename(other)
    return f"{path.name} and {other.name} of {path.parent.name} changed for each other"


def batches_of(records):
    """(base offset, next offset, bytes) of each whole batch."""
    at = 0
    while at + 61 <= len(records):
        base, length = LOG_HEAD.unpack_from(records, at)
        if at + 12 + length > len(records):
            return
        (delta,) = struct.unpack_from(">i", records, at + 23)
        yield base, base + delta + 1, records[at : at + 12 + length]
        at += 12 + length


def content_of(target, topic, expected=None):
    """Per partition what is served: batches by offset, the end, and the offsets of which an error was told."""
    found = []
    with Connection(target) as connection:
        for partition in range(PARTITIONS):
            error, end = eventually(lambda: answered(connection, topic, partition), f"partition {partition}")
            found.append(partition_content(connection, topic, partition, end if not error else 0, (expected or [None] * PARTITIONS)[partition]))
    return found


def answered(connection, topic, partition):
    error, offset = wire.listed(connection.ask(wire.list_offsets(topic, partition=partition)))
    return None if error in (5, 6) else (error, offset)


def partition_content(connection, topic, partition, end, expected):
    batches, refused, offset = {}, [], 0
    while offset < end:
        error, _, records = wire.fetched(connection.ask(fetch(topic, offset, partition, bytes_max=FETCH_BYTES)))
        served = list(batches_of(records)) if error == 0 else []
        for base, _, content in served:
            batches[base] = content
        if served:
            offset = served[-1][1]
            continue
        assert error, f"partition {partition} answers nothing at {offset} of {end}"
        refused.append(offset)
        offset = next((base for base in sorted(expected["batches"]) if base > offset), end) if expected else end
    return {"batches": batches, "end": end, "refused": refused}


def prepared(program, chance):
    """A directory as a kill left it, and what it held."""
    broker = Broker(program, "flips-original", "1", ["num.partitions=1"])
    broker.start()
    topic = rdkafka.create(broker.target, "flips", PARTITIONS, {"segment.bytes": "1048576"})
    with Connection(broker.target) as connection:
        for number in range(BATCHES):
            size = LARGE_BYTES if number % LARGE_EVERY == 0 else chance.randint(100, 20_000)
            answer = connection.ask(produce(topic, batch([chance.randbytes(size)]), number % PARTITIONS))
            assert produced(answer)[0] == 0
            if number == BATCHES // 2:
                broker.stop()
                broker.start()
                connection.__init__(broker.target)
    expected = content_of(broker.target, topic)
    broker.kill()
    return broker.data, topic, expected


class Trial:
    """A broker on one damaged copy, started twice: damage must not make a loop of crashes, nor be worse the second time."""

    def __init__(self, program, data, topic, expected):
        self.topic, self.expected = topic, expected
        self.broker = Broker(program, "flips-trial", "1", ["num.partitions=1"])
        shutil.copytree(data, self.broker.data, copy_function=lambda *paths: subprocess.run(["cp", "--sparse=always", *paths], check=True))

    def outcome(self):
        return [self.start_once(), self.start_once()][-1]

    def start_once(self):
        try:
            self.broker.start()
        except RuntimeError as error:
            return self.refusal(str(error))
        try:
            return self.compare(content_of(self.broker.target, self.topic, self.expected))
        finally:
            if self.broker.alive():
                self.broker.kill()

    def refusal(self, told):
        code = self.broker.process.wait()
        assert code in DIRECTORY_DAMAGED_CODES, f"the broker ended with {code}: {told}"
        assert re.search(r"superblock|anchor|ring-|images/|segments/|journal", told), f"the refusal names no file: {told}"
        assert "panicked" not in told, told
        return "refused"

    def compare(self, found):
        missing = 0
        for partition, (want, have) in enumerate(zip(self.expected, found)):
            for base, content in have["batches"].items():
                assert want["batches"].get(base) == content, f"partition {partition} serves another batch at {base} than was written"
            missing += len(want["batches"].keys() - have["batches"].keys())
        if not missing:
            return "harmless"
        refused = sum(len(have["refused"]) for have in found)
        if refused:
            return "refused at the offset"
        told = (self.broker.folder / "log").read_text(errors="replace")
        assert re.search(r"WARN|ERROR", told) and re.search(r"damage|torn|cut|lost|corrupt|unread|does not check|missing", told), f"{missing} batches are not served, and nothing was said: {told[-1500:]}"
        return "cut with a warning"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", type=pathlib.Path, required=True)
    parser.add_argument("--flips", type=int, default=40)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    arguments = parser.parse_args()
    print(f"  flips with seed {arguments.seed}", flush=True)
    chance = random.Random(arguments.seed)
    data, topic, expected = prepared(arguments.broker, chance)
    assert all(part["batches"] and not part["refused"] for part in expected)
    seen, failures = collections.Counter(), 0
    for number in range(arguments.flips):
        region = REGIONS[number % len(REGIONS)]
        trial = Trial(arguments.broker, data, topic, expected)
        what = damage(trial.broker.data, region, DAMAGES[number // len(REGIONS) % len(DAMAGES)], chance)
        if what is None:
            continue
        try:
            seen[region, trial.outcome()] += 1
        except Exception as error:
            failures += 1
            print(f"  FAIL flips {number}: {what}: {type(error).__name__}: {error}", flush=True)
            shutil.copytree(trial.broker.folder, SCRATCH / f"flips-failed-{number}", dirs_exist_ok=True)
    for region in REGIONS:
        told = ", ".join(f"{outcome} {count}" for (where, outcome), count in sorted(seen.items()) if where == region)
        print(f"  {'ok  ' if not failures else 'note'} flips/{region}: {told}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
