"""The records that every suite writes and expects back byte for byte, the same in every run."""

import dataclasses
import hashlib

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
LARGE_BYTES = 900_000


@dataclasses.dataclass(frozen=True)
class Record:
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    def digest(self):
        """A short text that is equal only for equal key, value and headers, for messages about differences."""
        return hashlib.sha256(repr((self.key, self.value, self.headers)).encode()).hexdigest()[:16]


def noise(seed, count):
    """Bytes that do not compress, the same for the same seed."""
    return hashlib.shake_128(seed.encode()).digest(count)


def assorted(seed, null_headers=True):
    """Small records with every shape of key, value and header; not every client can write a header without a value."""
    records = [
        Record(None, b"only a value"),
        Record(b"only a key", None),
        Record(b"", b""),
        Record(b"with headers", b"value", (("one", b"1"), ("two", b"\x00\xff"), ("one", b"again"))),
        Record("schlüssel ✓".encode(), "wert ✓".encode(), (("größe", "groß".encode()),)),
        Record(bytes(range(256)), bytes(reversed(range(256)))),
        Record(b"compressible", b"abc" * 5000),
        Record(b"incompressible", noise(seed, 5000)),
    ]
    odd = (("empty", b""), ("null", None)) if null_headers else (("empty", b""),)
    records.append(Record(b"odd headers", b"v", odd))
    records += [Record(f"{seed}-{number}".encode(), noise(f"{seed}{number}", number)) for number in range(100)]
    return records


def large(seed):
    """A few records near the largest that a topic takes by default."""
    return [Record(f"large {number}".encode(), noise(f"{seed} large {number}", LARGE_BYTES - number)) for number in range(3)]


def difference(expected, actual):
    """The first difference between two sequences of records in words, or None."""
    for number, (left, right) in enumerate(zip(expected, actual)):
        if left != right:
            return f"record {number} differs: wrote {short(left)}, read {short(right)}"
    if len(expected) != len(actual):
        return f"wrote {len(expected)} records, read {len(actual)}"
    return None


def short(record):
    def cut(data):
        return data if data is None or len(data) <= 24 else f"{data[:24]!r}... ({len(data)} bytes)"

    return f"(key {cut(record.key)}, value {cut(record.value)}, headers {record.headers}, digest {record.digest()})"
