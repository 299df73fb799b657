"""Jobs on RDDs, whose records are opaque bytes to Spark, and those whose tasks lose attempts."""

import hashlib
import time
import zlib

from pyspark import TaskContext

from results import Outcome

RECORDS, KEYS = 80_000, 4_000
STRAGGLER_SECONDS = 60.0


def crc(thing):
    return zlib.crc32(repr(thing).encode())


def digest(records):
    """Counts the records and adds their checksums, wherever they ended up."""
    rows, checksum = records.map(lambda record: (1, crc(record))).fold((0, 0), lambda left, right: (left[0] + right[0], left[1] + right[1]))
    return Outcome(rows, str(checksum))


def pairs(context, salt, partitions=6):
    return context.parallelize(range(RECORDS), partitions).map(lambda number: (crc((salt, number)) % KEYS, number))


def group_by_key(spark, _folder):
    return digest(pairs(spark.sparkContext, 1).groupByKey(12).mapValues(sorted))


def cogroup(spark, _folder):
    left, right = pairs(spark.sparkContext, 2), pairs(spark.sparkContext, 3).filter(lambda pair: pair[0] % 3)
    return digest(left.cogroup(right, 12).mapValues(lambda sides: tuple(sorted(side) for side in sides)))


def sort_by_key(spark, _folder):
    """The order is proven within each partition and by the partitions' bounds."""

    def looked_at(partition, records):
        keys, checksum = [], 0
        for record in records:
            keys.append(record[0])
            checksum += crc(record)
        yield partition, keys[:1], keys[-1:], len(keys), checksum, keys == sorted(keys)

    seen = sorted(pairs(spark.sparkContext, 4).sortByKey(numPartitions=8).mapPartitionsWithIndex(looked_at).collect())
    bounds = [key for _, first, last, *_ in seen for key in first + last]
    assert all(in_order for *_, in_order in seen), "a partition is not sorted"
    assert bounds == sorted(bounds), "partitions overlap"
    return Outcome(sum(row[3] for row in seen), str(sum(row[4] for row in seen)))


def filled(number):
    """A record of some 160 bytes that LZ4 cannot shrink."""
    return number % 97, (number, hashlib.sha512(str(number).encode()).hexdigest())


def lost_attempts(spark, _folder):
    """Every second map task fails once, after most of what it writes was sent: what a losing attempt sent must not be read."""

    def failing(partition, numbers):
        for place, number in enumerate(numbers):
            if place == 14_000 and partition % 2 == 0 and TaskContext.get().attemptNumber() == 0:
                raise RuntimeError("planted: the first attempt fails")
            yield filled(number)

    written = spark.sparkContext.parallelize(range(90_000), 6).mapPartitionsWithIndex(failing)
    return digest(written.groupByKey(9).mapValues(sorted))


def stragglers(spark, _folder):
    """With speculation, a task that hangs at its end is run a second time, and both attempts have sent their blocks."""
    speculating = spark.sparkContext.getConf().get("spark.speculation", "false") == "true"

    def hanging(partition, numbers):
        for number in numbers:
            yield filled(number)
        if speculating and partition == 0 and TaskContext.get().attemptNumber() == 0:
            time.sleep(STRAGGLER_SECONDS)

    written = spark.sparkContext.parallelize(range(90_000), 6).mapPartitionsWithIndex(hanging)
    return digest(written.groupByKey(9).mapValues(sorted))


def unhurried(spark, _folder):
    """Twelve map tasks and twelve reduce tasks that take their time, so that the server can be killed amid either."""

    def slowly(numbers):
        for number in numbers:
            yield filled(number)
        time.sleep(0.3)

    def read_slowly(groups):
        for key, values in groups:
            yield key, sorted(values)
        time.sleep(0.3)

    written = spark.sparkContext.parallelize(range(96_000), 12).mapPartitions(slowly)
    return digest(written.groupByKey(12).mapPartitions(read_slowly))
