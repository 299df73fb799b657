"""Our own client tool, beside kcat: what one writes the other reads, against Watershed and against Kafka itself.

The program is $WATERSHED_PROGRAM, else what was built last in this tree.
"""

import json
import os
import pathlib
import subprocess

from harness.records import CODECS
from harness.suite import Suite, eventually, fresh

ROOT = pathlib.Path(__file__).resolve().parents[3]
REFUSED = 8

suite = Suite("cli")


def program():
    if "WATERSHED_PROGRAM" in os.environ:
        return os.environ["WATERSHED_PROGRAM"]
    built = [path for path in ROOT.glob("target/*/watershed-broker") if path.is_file()]
    assert built, "no watershed-broker is built; set WATERSHED_PROGRAM"
    return str(max(built, key=lambda path: path.stat().st_mtime))


def run(target, *arguments, given=b"", code=0):
    """Standard output of a command; with another code than 0 its standard error."""
    done = subprocess.run([program(), *arguments, "--bootstrap", target], input=given, capture_output=True, timeout=60)
    told = done.stderr.decode(errors="replace")
    assert done.returncode == code, f"{' '.join(arguments)} ended with {done.returncode}: {told[-400:]}"
    return told if code else done.stdout


def read(target, *arguments):
    return json.loads(run(target, *arguments, "--json"))


def kcat(target, *arguments, given=b""):
    done = subprocess.run(["kcat", "-b", target, *arguments], input=given, capture_output=True, timeout=60)
    assert done.returncode == 0, f"kcat {' '.join(arguments)}: {done.stderr.decode(errors='replace')[-400:]}"
    return done.stdout


def lines(count):
    return [f"key {number}|value {number} {'abc' * number}".encode() for number in range(count)]


@suite.case
def kcat_reads_what_we_write(target):
    topic, given = fresh("cli-out"), lines(100)
    run(target, "topic", "create", topic, "-p", "1")
    for codec in CODECS:
        run(target, "produce", topic, "-K", "|", "-z", codec, "-H", f"codec={codec}", given=b"\n".join(given) + b"\n")
    count = len(given) * len(CODECS)
    found = kcat(target, "-C", "-q", "-t", topic, "-p", "0", "-o", "beginning", "-c", str(count), "-X", "check.crcs=true", "-f", "%h|%k|%s\\n")
    assert found.splitlines() == [b"codec=%s|%s" % (codec.encode(), line) for codec in CODECS for line in given]


@suite.case
def we_read_what_kcat_writes(target):
    topic, given = fresh("cli-in"), lines(100)
    run(target, "topic", "create", topic, "-p", "1")
    for codec in CODECS:
        kcat(target, "-P", "-t", topic, "-p", "0", "-z", codec, "-K", "|", "-H", f"codec={codec}", given=b"\n".join(given) + b"\n")
    found = run(target, "consume", topic, "-e", "-f", "%h|%k|%s\\n")
    assert found.splitlines() == [b"codec=%s|%s" % (codec.encode(), line) for codec in CODECS for line in given]


@suite.case
def keys_go_where_java_puts_them(target):
    topic = fresh("cli-keys")
    run(target, "topic", "create", topic, "-p", "7")
    keys = b"".join(b"key %d|ours\n" % number for number in range(50))
    run(target, "produce", topic, "-K", "|", given=keys)
    kcat(target, "-P", "-t", topic, "-K", "|", "-X", "partitioner=murmur2", given=keys.replace(b"ours", b"theirs"))
    places = {}
    for line in run(target, "consume", topic, "-e", "-f", "%k|%p\\n").splitlines():
        key, _, partition = line.partition(b"|")
        places.setdefault(key, set()).add(partition)
    assert len(places) == 50 and all(len(found) == 1 for found in places.values()), places


@suite.case
def json_copies_a_topic(target):
    source, copy = fresh("cli-json"), fresh("cli-copy")
    for topic in (source, copy):
        run(target, "topic", "create", topic, "-p", "1")
    kcat(target, "-P", "-t", source, "-p", "0", "-K", ":", "-H", "a=1", "-Z", given=b"\xff\xfe:bytes\ntombstone:\nkey:text\n")
    text = run(target, "consume", source, "-e", "--json")
    run(target, "produce", copy, "--json", given=text)
    form = ("-C", "-q", "-e", "-p", "0", "-f", "%o %T %h %K:%k %S:%s\\n")
    assert kcat(target, "-t", copy, *form) == kcat(target, "-t", source, *form)


@suite.case
def a_group_is_followed_and_reset(target):
    topic, group = fresh("cli-group"), fresh("cli-members")
    run(target, "topic", "create", topic, "-p", "1")
    run(target, "produce", topic, given=b"a\nb\nc\nd\n")
    assert run(target, "consume", topic, "-g", group, "-c", "3") == b"a\nb\nc\n"
    (described,) = read(target, "group", "describe", group)
    assert (described["state"], described["lag"]) == ("Empty", 1), described
    run(target, "group", "reset", group, "--all-topics", "--to-offset", "1", "--execute")
    assert run(target, "consume", topic, "-g", group, "-e") == b"b\nc\nd\n"
    assert group in [listed["group"] for listed in read(target, "group", "list")]
    run(target, "group", "delete", group)
    assert "`group list`" in run(target, "group", "describe", group, code=REFUSED)


def described(target, group):
    """A group that may not be there yet."""
    done = subprocess.run([program(), "group", "describe", group, "--json", "--bootstrap", target], capture_output=True, timeout=60)
    return json.loads(done.stdout)[0] if done.returncode == 0 else {"members": [], "lag": None, "state": None}


def is_shared(target, group, partitions):
    """Whether every record is committed and the members read so many partitions each."""
    told = described(target, group)
    return told["state"] == "Stable" and told["lag"] == 0 and sorted(len(member["partitions"]) for member in told["members"]) == partitions


@suite.case
def a_group_is_shared_with_kcat(target):
    topic, group = fresh("cli-shared"), fresh("cli-mixed")
    run(target, "topic", "create", topic, "-p", "4")
    wanted = {f"{turn} {number}" for turn in ("first", "both", "last") for number in range(200)}

    def write(turn):
        for partition in range(4):
            given = "".join(f"{turn} {number}\n" for number in range(200) if number % 4 == partition)
            run(target, "produce", topic, "-p", str(partition), given=given.encode())

    write("first")
    ours = subprocess.Popen([program(), "consume", topic, "-g", group, "--bootstrap", target], stdout=subprocess.PIPE)
    eventually(lambda: is_shared(target, group, [4]), "ours has all partitions", 60)
    options = ("-X", "auto.offset.reset=earliest", "-X", "auto.commit.interval.ms=500")
    theirs = subprocess.Popen(["kcat", "-b", target, "-q", "-u", *options, "-G", group, topic], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    eventually(lambda: is_shared(target, group, [2, 2]), "each has half of the partitions", 60)
    write("both")
    eventually(lambda: is_shared(target, group, [2, 2]), "what was written to both is committed", 60)
    ours.terminate()
    our_lines = ours.communicate(timeout=60)[0].decode().split("\n")
    assert ours.returncode == 0, ours.returncode
    eventually(lambda: is_shared(target, group, [4]), "kcat has all partitions", 60)
    write("last")
    eventually(lambda: is_shared(target, group, [4]), "what was written last is committed", 60)
    theirs.terminate()
    their_lines = theirs.communicate(timeout=60)[0].decode().split("\n")
    found = [line for line in our_lines + their_lines if line]
    assert len(found) == len(wanted) and set(found) == wanted, f"{len(found)} records, {len(set(found))} of them different"
    assert any(line.startswith("both") for line in our_lines) and any(line.startswith("both") for line in their_lines)


@suite.case
def topics_and_configurations(target):
    topic = fresh("cli-topic")
    run(target, "topic", "create", topic, "-p", "2", "-c", "retention.ms=3600000")
    run(target, "topic", "alter", topic, "-p", "3")
    run(target, "produce", topic, "-p", "2", given=b"a\nb\n")
    run(target, "config", "set", "topic", topic, "max.message.bytes=4096")
    run(target, "topic", "delete-records", topic, "--before", "1", "-p", "2")
    (described,) = read(target, "topic", "describe", topic)
    assert described["configs"] == {"retention.ms": "3600000", "max.message.bytes": "4096"}, described
    ends = [(part["log_start"], part["high_watermark"]) for part in described["partitions"]]
    assert ends == [(0, 0), (0, 0), (1, 2)], ends
    run(target, "config", "unset", "topic", topic, "retention.ms")
    assert read(target, "config", "get", "topic", topic, "max.message.bytes")[0]["source"] == "topic"
    assert "TOPIC_ALREADY_EXISTS" in run(target, "topic", "create", topic, code=REFUSED)
    run(target, "topic", "delete", topic)
    assert topic not in [listed["topic"] for listed in read(target, "topic", "list")]


if __name__ == "__main__":
    suite.main()
