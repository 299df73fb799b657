"""Bad input on raw sockets. After each case the broker answers an honest client at once, and its memory has not grown by more than its due."""

import os
import random
import resource
import struct
import time

from harness import wire
from harness.broker import resident_bytes
from harness.suite import Suite, eventually, fresh
from harness.wire import Connection, batch, fetch, produce, produced

suite = Suite("malformed")
GROWTH_BYTES_MAX = 64 << 20
HONEST_SECONDS_MAX = 5.0
IDLE_COUNT = 2000
IDLE_BYTES_MAX = 16 << 10
FILES_SLACK = 20  # connections of earlier cases may close late


def create(target, name):
    """A topic that has a leader, made by asking for it."""
    topic = fresh(name)
    with Connection(target) as connection:
        connection.ask(wire.metadata([topic]))
        eventually(lambda: wire.listed(connection.ask(wire.list_offsets(topic))) == (0, 0), "a new topic that answers")
    return topic


def end_offset(target, topic):
    with Connection(target) as connection:
        error, offset = wire.listed(connection.ask(wire.list_offsets(topic)))
        assert error == 0, error
        return offset


def honest(target, topic):
    """A write and a read that must work, and soon."""
    started = time.monotonic()
    with Connection(target) as connection:
        error, offset = produced(connection.ask(produce(topic, batch([b"honest"]))))
        assert error == 0, f"an honest produce got error {error}"
        error, watermark, records = wire.fetched(connection.ask(fetch(topic, offset)))
        assert error == 0 and watermark > offset and b"honest" in records, (error, watermark, offset)
    assert time.monotonic() - started < HONEST_SECONDS_MAX, f"an honest client waited {time.monotonic() - started:.1f} s"


def case(function):
    """Registers a case that is followed by an honest client and a look at the broker's memory."""

    def run(target):
        topic = create(target, "honest")
        before = memory()
        function(target)
        honest(target, topic)
        grown = memory() - before
        assert grown <= GROWTH_BYTES_MAX, f"memory grew by {grown >> 20} MiB"
        if suite.arguments.pid:
            suite.note(f"memory grew by {grown >> 10} KiB")

    run.__name__ = function.__name__
    return suite.case(run)


def memory():
    return resident_bytes(suite.arguments.pid) if suite.arguments.pid else 0


def must_close(target, data, what, seconds=10):
    with Connection(target) as connection:
        connection.send(data)
        assert connection.is_closed(seconds), f"the connection stayed open after {what}"


def survives(target, data, seconds=1.0):
    """Sends bytes that may be refused or dropped, whichever; waits a little for either."""
    with Connection(target) as connection:
        connection.send(data)
        connection.is_closed(seconds)


@case
def absurd_lengths(target):
    for length in (-1, -(2**31), 2**31 - 1, 200 << 20, 0x16030100):
        must_close(target, struct.pack(">i", length) + b"x" * 100, f"a length of {length}")


@case
def frames_too_short_for_a_header(target):
    for count in (0, 1, 4, 7):
        must_close(target, wire.frame(b"\x00" * count), f"a frame of {count} bytes")


@case
def garbage(target):
    noise = random.Random(1)
    must_close(target, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP")
    must_close(target, b"SSH-2.0-OpenSSH_9.2\r\n" * 3, "SSH")
    must_close(target, bytes.fromhex("16030100c8010000c40303") + noise.randbytes(200), "a TLS hello")
    for _ in range(20):
        survives(target, noise.randbytes(300), 0.05)


@case
def unknown_keys_and_versions(target):
    must_close(target, wire.request(9999, 0, 1, b""), "api key 9999")
    must_close(target, wire.request(-1, 0, 1, b""), "api key -1")
    for key in (wire.PRODUCE, wire.FETCH, wire.METADATA, wire.CREATE_TOPICS):
        must_close(target, wire.request(key, 99, 1, b"\x00" * 50), f"version 99 of api key {key}")


@case
def T10_unknown_api_versions_version_gets_v0_with_error_35(target):
    with Connection(target) as connection:
        software = b"\x04raw" + b"\x021" + b"\x00"
        connection.send(wire.frame(struct.pack(">hhi", wire.API_VERSIONS, 99, 77) + wire.string("raw") + b"\x00" + software))
        correlation, body = connection.answer()
        error, count = struct.unpack_from(">hi", body)
        ranges = {key: (low, high) for key, low, high in struct.iter_unpack(">hhh", body[6 : 6 + 6 * count])}
        assert correlation == 77 and error == wire.UNSUPPORTED_VERSION, (correlation, error)
        assert wire.API_VERSIONS in ranges and len(body) == 6 + 6 * count, ranges
        body = connection.ask(wire.api_versions(0, 78))
        assert struct.unpack_from(">h", body)[0] == 0, "the same connection cannot ask again"


@case
def api_versions_checks_the_client_name(target):
    software = b"\x06bad()" + b"\x021" + b"\x00"
    with Connection(target) as connection:
        flexible = struct.pack(">hhi", wire.API_VERSIONS, 3, 5) + wire.string("raw") + b"\x00" + software
        connection.send(wire.frame(flexible))
        _, body = connection.answer()
        assert struct.unpack_from(">h", body)[0] == wire.INVALID_REQUEST, body[:2]


@case
def truncated_bodies(target):
    topic = create(target, "cut")
    whole = [wire.metadata([topic]), produce(topic, batch([b"v"] * 3)), fetch(topic, 0), wire.list_offsets(topic)]
    for data in whole:
        body = data[4:]
        for cut in range(8, len(body) - 1, max(1, len(body) // 20)):
            survives(target, wire.frame(body[:cut]), 0.02)
    assert end_offset(target, topic) == 0, "a truncated produce was appended"


@case
def truncated_then_closed(target):
    topic = create(target, "gone")
    data = produce(topic, batch([b"v" * 1000]))
    for cut in (1, 3, 5, 20, 100, len(data) - 1):
        with Connection(target) as connection:
            connection.send(data[:cut])
    assert end_offset(target, topic) == 0, "half a produce was appended"


@case
def absurd_counts(target):
    counts = (2**31 - 1, 10**8, -2, -(2**31))
    for count in counts:
        number = struct.pack(">i", count)
        survives(target, wire.request(wire.METADATA, 4, 1, number + b"\x01"), 0.1)
        survives(target, wire.request(wire.PRODUCE, 8, 1, struct.pack(">hhi", -1, -1, 1000) + number), 0.1)
        survives(target, wire.request(wire.FETCH, 11, 1, struct.pack(">iiiibii", -1, 0, 1, 1 << 20, 0, 0, -1) + number), 0.1)
        survives(target, wire.request(wire.LIST_OFFSETS, 4, 1, struct.pack(">ib", -1, 0) + number), 0.1)
        survives(target, wire.request(wire.CREATE_TOPICS, 4, 1, number), 0.1)
        survives(target, wire.request(wire.DELETE_TOPICS, 3, 1, number), 0.1)
    for varint in (b"\xff\xff\xff\xff\x0f", b"\xff" * 10, b"\x80" * 20):
        for key, version in ((wire.METADATA, 12), (wire.PRODUCE, 9), (wire.FETCH, 12), (wire.CREATE_TOPICS, 7), (32, 4), (44, 1), (60, 1)):
            survives(target, wire.request(key, version, 1, b"\x00" + varint + b"\x00" * 20), 0.05)


def corrupt_record_sets():
    """What is wrong: (the record set, Watershed's error, the errors that Apache Kafka has for it)."""
    good = batch([b"v", b"w"])
    malformed = {wire.CORRUPT_MESSAGE, wire.INVALID_REQUEST, wire.INVALID_RECORD}
    return {
        "a wrong checksum": (batch([b"v"], crc_xor=1), 2, {2}),
        "a flipped payload bit": (good[:-3] + bytes([good[-3] ^ 1]) + good[-2:], 2, {2}),
        "no batch at all": (b"", 87, malformed),
        "two batches": (good + good, 87, malformed),
        "magic 1": (batch([b"v"], magic=1), 87, {2, 35, 43, 76, 87}),
        "magic 3": (batch([b"v"], magic=3), 87, {2, 35, 42, 43, 76, 87}),
        "a length past the end": (batch([b"v"], length_plus=100), 87, malformed),
        "a length short of the end": (batch([b"v"], length_plus=-1), 87, malformed),
        "a negative length": (batch([b"v"], length_plus=-1000), 2, malformed),
        "half a header": (good[:30], 87, malformed),
        "a count that is too large": (batch([b"v"], count_plus=5), 87, {2, 87}),
        "a count that is too small": (batch([b"v", b"w"], count_plus=-1), 87, {2, 87}),
        "no records": (batch([]), 87, malformed),
        "a negative last offset delta": (batch([b"v"], delta_plus=-5), 87, malformed),
        "a control batch": (batch([b"v"], attributes=0x20), 87, malformed),
        "an unknown codec": (batch([b"v"], attributes=7), 76, {-1, 2, 42, 76, 87}),
    }


@case
def T12_corrupt_record_sets_are_refused(target):
    topic = create(target, "corrupt")
    wrong = []
    for what, (records, exact, alternatives) in corrupt_record_sets().items():
        error = refusal(target, topic, records)
        expected = {exact} if suite.arguments.watershed else alternatives
        if error not in expected:
            wrong.append(f"{what}: error {error}, not {' or '.join(map(str, sorted(expected)))}")
    assert not wrong, "; ".join(wrong)
    assert end_offset(target, topic) == 0, "a corrupt record set was appended"


def refusal(target, topic, records, **options):
    """The error of a produce; a closed connection counts as INVALID_REQUEST."""
    with Connection(target) as connection:
        try:
            return produced(connection.ask(produce(topic, records, **options)))[0]
        except ConnectionError:
            return wire.INVALID_REQUEST


@case
def odd_acks(target):
    topic = create(target, "acks")
    for acks in (2, -2, 100):
        error = refusal(target, topic, batch([b"v"]), acks=acks)
        assert error == wire.INVALID_REQUIRED_ACKS, (acks, error)
    with Connection(target) as connection:
        connection.send(produce(topic, batch([b"v"], crc_xor=1), acks=0))
        assert connection.is_closed(), "an error without acknowledgement left the connection open"
    with Connection(target) as connection:
        connection.send(produce(topic, batch([b"v"]), acks=0, correlation=1))
        connection.send(wire.api_versions(0, 2))
        assert connection.answer()[0] == 2, "acks=0 was answered"
    eventually(lambda: end_offset(target, topic) == 1, "the record without acknowledgement")


@case
def unknown_topics_and_partitions(target):
    topic = create(target, "known")
    for name, partition in ((fresh("absent"), 0), (topic, 999), (topic, -1)):
        with Connection(target) as connection:
            assert produced(connection.ask(produce(name, batch([b"v"]), partition)))[0] == 3, (name, partition)
            assert wire.fetched(connection.ask(fetch(name, 0, partition)))[0] == 3, (name, partition)
            assert wire.listed(connection.ask(wire.list_offsets(name, -1, partition)))[0] == 3, (name, partition)


@case
def C11_offsets_out_of_range(target):
    topic = create(target, "range")
    with Connection(target) as connection:
        assert produced(connection.ask(produce(topic, batch([b"a", b"b", b"c"])))) == (0, 0)
        for offset in (-1, 4, 2**62):
            assert wire.fetched(connection.ask(fetch(topic, offset)))[0] == 1, offset
        error, watermark, records = wire.fetched(connection.ask(fetch(topic, 3)))
        assert (error, watermark, records) == (0, 3, b""), (error, watermark, records)
        assert b"b" in wire.fetched(connection.ask(fetch(topic, 2, bytes_max=1)))[2], "the batch around offset 2 is missing"


@case
def flipped_bits(target):
    topic = create(target, "flipped")
    whole = [wire.metadata([topic]), produce(topic, batch([b"v"] * 3)), fetch(topic, 0), wire.list_offsets(topic)]
    chance = random.Random(7)
    for _ in range(200):
        data = bytearray(chance.choice(whole))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(4, len(data))
            data[at] ^= 1 << chance.randrange(8)
        survives(target, bytes(data), 0.02)


@case
def many_idle_connections(target):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(IDLE_COUNT, hard - 100)
    topic = create(target, "idle")
    before, files = memory(), open_files()
    held = [Connection(target) for _ in range(count)]
    try:
        for connection in held[:: max(1, count // 100)]:
            assert struct.unpack_from(">h", connection.ask(wire.api_versions()))[0] == 0
        honest(target, topic)
        grown, opened = memory() - before, open_files() - files
        assert not suite.arguments.pid or grown <= (8 << 20) + count * IDLE_BYTES_MAX, f"{count} idle connections cost {grown >> 10} KiB"
        assert not suite.arguments.pid or opened >= count - FILES_SLACK, f"{count} connections, but {opened} files more: is this the broker's process?"
        if suite.arguments.pid:
            suite.note(f"{count} idle connections cost {grown // count} bytes each and {opened} files")
    finally:
        for connection in held:
            connection.socket.close()
    eventually(lambda: open_files() <= files + FILES_SLACK, "the closed connections' files")


def open_files():
    return len(os.listdir(f"/proc/{suite.arguments.pid}/fd")) if suite.arguments.pid else 0


@case
def a_client_that_never_reads(target):
    topic = create(target, "unread")
    with Connection(target) as connection:
        for _ in range(20):
            assert produced(connection.ask(produce(topic, batch([b"x" * 500_000]))))[0] == 0
    greedy = [Connection(target) for _ in range(4)]
    try:
        for connection in greedy:
            connection.socket.setblocking(False)
            push(connection, b"".join(fetch(topic, number % 20, correlation=number) for number in range(500)))
        for _ in range(5):
            honest(target, topic)
            time.sleep(0.2)
    finally:
        for connection in greedy:
            connection.socket.close()


def push(connection, data):
    """Sends as much as the broker takes within a second."""
    deadline = time.monotonic() + 1
    while data and time.monotonic() < deadline:
        try:
            data = data[connection.socket.send(data) :]
        except BlockingIOError:
            time.sleep(0.01)
        except ConnectionError:
            return


@case
def C10_pipelined_requests_answer_in_order(target):
    topics = [create(target, f"pipe-{number}") for number in range(4)]
    with Connection(target) as connection:
        requests, kinds = [], random.Random(3)
        for number in range(300):
            topic = topics[number % 4]
            kind = kinds.randrange(4)
            requests.append([
                lambda: produce(topic, batch([f"{number}".encode()]), correlation=number),
                lambda: fetch(topic, 0, wait_ms=5, correlation=number),
                lambda: wire.list_offsets(topic, correlation=number),
                lambda: wire.metadata([topic], number),
            ][kind]())
        connection.send(b"".join(requests))
        order = [connection.answer()[0] for _ in requests]
    assert order == list(range(300)), f"answers came as {order[:20]}..."


@case
def half_a_header_held(target):
    """Each claims 90 MiB or is cut off before it says so. Apache Kafka stopped answering under it, so this case comes last."""
    topic = create(target, "held")
    held = [Connection(target) for _ in range(100)]
    try:
        for number, connection in enumerate(held):
            connection.send((struct.pack(">i", 90 << 20) + b"\x00" * 40)[: 1 + number % 40])
        for _ in range(10):
            honest(target, topic)
            time.sleep(0.1)
    finally:
        for connection in held:
            connection.socket.close()


if __name__ == "__main__":
    suite.main()
