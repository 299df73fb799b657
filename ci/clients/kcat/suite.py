"""kcat: the client that people try first."""

import re
import subprocess
import tempfile

from harness.records import CODECS, LARGE_BYTES
from harness.suite import Suite, fresh

suite = Suite("kcat")


def kcat(target, *arguments, given=b""):
    done = subprocess.run(["kcat", "-b", target, *arguments], input=given, capture_output=True, timeout=60)
    assert done.returncode == 0, f"kcat {' '.join(arguments)}: {done.stderr.decode(errors='replace')[-400:]}"
    return done.stdout


def read(target, topic, partition, count, offset="beginning"):
    """(offset, key, value, headers) of the next `count` records; lengths, not delimiters, tell where a field ends."""
    output = kcat(
        target, "-C", "-q", "-t", topic, "-p", str(partition), "-o", str(offset), "-c", str(count), "-X", "check.crcs=true",
        "-f", "%o %K %S %h\\n%k%s\\n",
    )
    found = []
    while output:
        head, _, output = output.partition(b"\n")
        place, key_bytes, value_bytes, *headers = head.decode().split(" ", 3)
        key_end = max(0, int(key_bytes))
        value_end = key_end + max(0, int(value_bytes))
        key = output[:key_end] if int(key_bytes) >= 0 else None
        value = output[key_end:value_end] if int(value_bytes) >= 0 else None
        found.append((int(place), key, value, headers[0] if headers else ""))
        output = output[value_end + 1 :]
    return found


@suite.case
def lists_the_cluster(target):
    topic = fresh("kcat-list")
    kcat(target, "-P", "-t", topic, given=b"x\n")
    listing = kcat(target, "-L").decode()
    assert f"broker 1 at {target}" in listing and f'topic "{topic}"' in listing, listing[:600]
    one = kcat(target, "-L", "-t", topic).decode()
    assert re.search(r"partition 0, leader 1, replicas: 1, isrs: 1", one), one[:600]


@suite.case
def every_codec(target):
    topic = fresh("kcat-codec")
    lines = [f"key {number}:value {number} {'abc' * number}".encode() for number in range(200)]
    expected = [tuple(line.split(b":", 1)) for line in lines]
    start = 0
    for codec in CODECS:
        kcat(target, "-P", "-t", topic, "-p", "0", "-z", codec, "-K", ":", given=b"\n".join(lines) + b"\n")
        found = read(target, topic, 0, len(lines), start)
        assert [offset for offset, *_ in found] == list(range(start, start + len(lines))), codec
        assert [(key, value) for _, key, value, _ in found] == expected, codec
        start += len(lines)


@suite.case
def headers_and_nulls(target):
    topic = fresh("kcat-null")
    kcat(target, "-P", "-t", topic, "-p", "0", "-k", "k", "-H", "one=1", "-H", "two=2", "-H", "none", given=b"v\n")
    kcat(target, "-P", "-t", topic, "-p", "0", "-K", ":", "-Z", given=b"tombstone:\n")
    kcat(target, "-P", "-t", topic, "-p", "0", given=b"no key\n")
    found = read(target, topic, 0, 3)
    assert found[0] == (0, b"k", b"v", "one=1,two=2,none=NULL"), found[0]
    assert found[1] == (1, b"tombstone", None, ""), found[1]
    assert found[2] == (2, None, b"no key", ""), found[2]


@suite.case
def large_record(target):
    topic = fresh("kcat-large")
    text = ("0123456789abcde\n" * (LARGE_BYTES // 16)).encode()
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        kcat(target, "-P", "-t", topic, "-p", "0", file.name)
    assert read(target, topic, 0, 1) == [(0, None, text, "")]


@suite.case
def queries_offsets(target):
    topic = fresh("kcat-query")
    kcat(target, "-P", "-t", topic, "-p", "0", given=b"a\nb\nc\n")
    for when, offset in (("-1", 3), ("-2", 0)):
        answer = kcat(target, "-Q", "-t", f"{topic}:0:{when}").decode()
        assert f"{topic} [0] offset {offset}" in answer, answer
    assert read(target, topic, 0, 1, "-1")[0][:3] == (2, None, b"c")


if __name__ == "__main__":
    suite.main()
