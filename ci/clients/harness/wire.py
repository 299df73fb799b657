"""As much of Kafka's wire as raw-socket suites need: old, inflexible versions written by hand, and record batches with one fault at a time."""

import socket
import struct
import time

import crc32c

PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS, CREATE_TOPICS, DELETE_TOPICS, INIT_PRODUCER_ID = 0, 1, 2, 3, 18, 19, 20, 22
NONE, CORRUPT_MESSAGE, INVALID_REQUIRED_ACKS, UNSUPPORTED_VERSION, INVALID_REQUEST, INVALID_RECORD = 0, 2, 21, 35, 42, 87
CLIENT = "raw"


def string(text):
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def frame(body):
    return struct.pack(">i", len(body)) + body


def request(key, version, correlation, body):
    """A whole frame with a version 1 header."""
    return frame(struct.pack(">hhi", key, version, correlation) + string(CLIENT) + body)


def varint(number):
    value = (number << 1) ^ (number >> 63)
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def record(delta, value, key=None):
    body = b"\x00" + varint(0) + varint(delta)
    body += varint(-1) if key is None else varint(len(key)) + key
    body += varint(len(value)) + value + varint(0)
    return varint(len(body)) + body


def batch(values, magic=2, crc_xor=0, attributes=0, length_plus=0, count_plus=0, delta_plus=0, base_offset=0, producer=(-1, -1, -1)):
    """A record batch of now; the named arguments plant faults."""
    time_ms = int(time.time() * 1000)
    records = b"".join(record(delta, value) for delta, value in enumerate(values))
    tail = struct.pack(
        ">hiqqqhii", attributes, len(values) - 1 + delta_plus, time_ms, time_ms, *producer, len(values) + count_plus
    ) + records
    crc = crc32c.crc32c(tail) ^ crc_xor
    return struct.pack(">qiibI", base_offset, len(tail) + 9 + length_plus, 0, magic, crc) + tail


def api_versions(version=0, correlation=1):
    return frame(struct.pack(">hhi", API_VERSIONS, version, correlation) + string(CLIENT))


def metadata(topics, correlation=1):
    """Metadata v4, which creates missing topics."""
    return request(METADATA, 4, correlation, struct.pack(">i", len(topics)) + b"".join(map(string, topics)) + b"\x01")


def produce(topic, records, partition=0, acks=-1, correlation=1):
    """Produce v8."""
    body = struct.pack(">hhi", -1, acks, 10_000) + struct.pack(">i", 1) + string(topic) + struct.pack(">ii", 1, partition)
    return request(PRODUCE, 8, correlation, body + struct.pack(">i", len(records)) + records)


def fetch(topic, offset, partition=0, wait_ms=0, bytes_min=1, bytes_max=1 << 20, correlation=1):
    """Fetch v11 without a session."""
    body = struct.pack(">iiiibii", -1, wait_ms, bytes_min, bytes_max, 0, 0, -1) + struct.pack(">i", 1) + string(topic)
    body += struct.pack(">iiiqqi", 1, partition, -1, offset, -1, bytes_max)
    return request(FETCH, 11, correlation, body + struct.pack(">i", 0) + string(""))


def list_offsets(topic, timestamp=-1, partition=0, correlation=1):
    """ListOffsets v4."""
    body = struct.pack(">ib", -1, 0) + struct.pack(">i", 1) + string(topic) + struct.pack(">iiiq", 1, partition, -1, timestamp)
    return request(LIST_OFFSETS, 4, correlation, body)


class Connection:
    """A socket that speaks frames."""

    def __init__(self, target, seconds=15):
        host, port = target.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def exactly(self, count):
        data = bytearray()
        while len(data) < count:
            more = self.socket.recv(min(1 << 20, count - len(data)))
            if not more:
                raise ConnectionError("closed by the broker")
            data += more
        return bytes(data)

    def answer(self):
        """(correlation id, body) of the next response."""
        (size,) = struct.unpack(">i", self.exactly(4))
        body = self.exactly(size)
        return struct.unpack(">i", body[:4])[0], body[4:]

    def ask(self, data):
        self.send(data)
        return self.answer()[1]

    def is_closed(self, seconds=10):
        """Whether the broker ends the connection; what it sends before is thrown away."""
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(65536):
                pass
            return True
        except ConnectionError:
            return True
        except TimeoutError:
            return False


def produced(body):
    """(error, base offset) of the only partition in a Produce v8 answer."""
    (name_bytes,) = struct.unpack_from(">h", body, 4)
    _, error, offset = struct.unpack_from(">ihq", body, 4 + 2 + name_bytes + 4)
    return error, offset


def fetched(body):
    """(error, high watermark, records) of the only partition in a Fetch v11 answer."""
    (topics,) = struct.unpack_from(">i", body, 10)
    if topics == 0:
        return struct.unpack_from(">h", body, 4)[0], -1, b""
    (name_bytes,) = struct.unpack_from(">h", body, 14)
    at = 14 + 2 + name_bytes + 4
    _, error, watermark, _, _ = struct.unpack_from(">ihqqq", body, at)
    at += 30
    (aborted,) = struct.unpack_from(">i", body, at)
    at += 4 + max(0, aborted) * 16 + 4
    (size,) = struct.unpack_from(">i", body, at)
    return error, watermark, body[at + 4 : at + 4 + max(0, size)]


def listed(body):
    """(error, offset) of the only partition in a ListOffsets v4 answer."""
    (name_bytes,) = struct.unpack_from(">h", body, 8)
    _, error, _, offset = struct.unpack_from(">ihqq", body, 8 + 2 + name_bytes + 4)
    return error, offset
