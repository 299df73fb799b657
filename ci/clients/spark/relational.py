"""Jobs on DataFrames: repartition, sort, a wide group by, joins that adaptive execution splits and coalesces.

Every column is computed from the row's number, so that all runs see the same rows; checksums add hashes of rows, so that their order is free
where the job leaves it free.
"""

from pyspark.sql import Window, functions as F

from results import Outcome

ROWS = 320_000
WIDE_ROWS, WIDE_KEYS, WIDE_REDUCERS = 1_000_000, 100_000, 2_000
MIB = 1 << 20


def payload(number, characters=256):
    """Text of this length that LZ4 cannot shrink."""
    pieces = [F.sha2(F.concat_ws("/", number.cast("string"), F.lit(piece)), 512) for piece in range(-(-characters // 128))]
    return F.substring(F.concat(*pieces), 1, characters)


def drawn(number, below, salt):
    """A number that looks random, the same in every run."""
    return F.pmod(F.xxhash64(number, F.lit(salt)), F.lit(below))


def hashed(frame):
    return F.xxhash64(*[frame[name] for name in frame.columns]).cast("decimal(20,0)")


def digest(frame, facts=()):
    """Counts the rows and adds their hashes, by Spark itself."""
    found = frame.select(hashed(frame).alias("hash")).agg(F.count("*"), F.sum("hash")).first()
    return Outcome(found[0], str(found[1]), facts=tuple(facts))


def digest_adaptive(frame, *wanted):
    """The same, where the plan that was run must also say that adaptive execution did what the job is there for."""
    counted = frame.select(hashed(frame).alias("hash")).agg(F.count("*"), F.sum("hash"))
    found = counted.collect()[0]
    plan = counted._jdf.queryExecution().executedPlan().toString()
    for words in wanted:
        assert words in plan, f"the plan that was run has no `{words}`:\n{plan}"
    return Outcome(found[0], str(found[1]), facts=wanted)


def with_settings(spark, **settings):
    """Sets properties of Spark SQL for the job that asks for them; the program resets them."""
    for name, value in settings.items():
        spark.conf.set("spark.sql." + name.replace("__", "."), value)


def repartition(spark, _folder):
    """About 85 MB, dealt out in turn."""
    rows = spark.range(0, ROWS, 1, 8).select("id", payload(F.col("id")).alias("payload"))
    return digest(rows.repartition(16))


def sort(spark, _folder):
    """A global sort; the order is proven by a window over each partition and by the partitions' bounds."""
    rows = spark.range(0, ROWS, 1, 8).select(drawn(F.col("id"), 1 << 40, 1).alias("key"), payload(F.col("id"), 128).alias("payload"))
    placed = rows.sort("key").select(
        "key", hashed(rows).alias("hash"), F.spark_partition_id().alias("partition"), F.monotonically_increasing_id().alias("place")
    )
    before = F.lag("key").over(Window.partitionBy("partition").orderBy("place"))
    bounds = (
        placed.withColumn("before", before).groupBy("partition")
        .agg(F.count("*"), F.sum("hash"), F.min("key"), F.max("key"), F.sum(F.when(F.col("before") > F.col("key"), 1).otherwise(0)))
        .collect()
    )
    bounds.sort()
    assert len(bounds) > 1, "the sort had one partition"
    assert all(inversions == 0 for *_, inversions in bounds), "a partition is not sorted"
    assert all(left[4] <= right[3] for left, right in zip(bounds, bounds[1:])), "partitions overlap"
    return Outcome(sum(row[1] for row in bounds), str(sum(row[2] for row in bounds)))


def wide(spark, _folder):
    """A group by with 2,000 reducers: small blocks, many of them."""
    with_settings(spark, adaptive__enabled="false", shuffle__partitions=WIDE_REDUCERS)
    rows = spark.range(0, WIDE_ROWS, 1, 8).select(drawn(F.col("id"), WIDE_KEYS, 2).alias("key"), "id")
    groups = rows.groupBy("key").agg(F.count("*").alias("count"), F.sum("id").alias("sum"), F.max("id").alias("last"))
    return digest(groups)


def skew(spark, _folder):
    """Two of five rows have the same key: adaptive execution must split its partition and join the pieces."""
    with_settings(
        spark, adaptive__enabled="true", shuffle__partitions=24, autoBroadcastJoinThreshold=-1,
        adaptive__skewJoin__skewedPartitionThresholdInBytes=4 * MIB, adaptive__skewJoin__skewedPartitionFactor="2",
        adaptive__advisoryPartitionSizeInBytes=3 * MIB,
    )
    number = F.col("id")
    key = F.when(number % 5 < 2, F.lit(0)).otherwise(drawn(number, 20_000, 3))
    left = spark.range(0, ROWS, 1, 8).select(key.alias("key"), payload(number, 128).alias("left"))
    right = spark.range(0, 20_000, 1, 4).select(number.alias("key"), payload(number, 64).alias("right"))
    return digest_adaptive(left.join(right, "key"), "skew=true", "AQEShuffleRead coalesced and skewed")


def three_way(spark, _folder):
    """Customers, orders and their lines joined and summed up, where adaptive execution coalesces most of the partitions."""
    with_settings(
        spark, adaptive__enabled="true", shuffle__partitions=64, autoBroadcastJoinThreshold=-1, adaptive__advisoryPartitionSizeInBytes=4 * MIB,
    )
    number = F.col("id")
    customers = spark.range(0, 30_000, 1, 4).select(number.alias("customer"), drawn(number, 5, 4).alias("segment"), payload(number, 64).alias("name"))
    orders = spark.range(0, 150_000, 1, 6).select(number.alias("order"), drawn(number, 30_000, 5).alias("customer"), drawn(number, 2_400, 6).alias("day"))
    lines = spark.range(0, 600_000, 1, 8).select(
        drawn(number, 150_000, 7).alias("order"), drawn(number, 100_000, 8).alias("cents"), payload(number, 32).alias("comment")
    )
    joined = customers.where("segment < 3").join(orders, "customer").join(lines, "order")
    summed = joined.groupBy("order", "day", "name").agg(F.sum("cents").alias("cents"), F.min("comment").alias("comment"))
    return digest_adaptive(summed, "SortMergeJoin", "AQEShuffleRead coalesced")
