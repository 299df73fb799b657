"""Jobs of Spark's own libraries, which shuffle JVM objects: MLlib's ALS, GraphX's PageRank, stateful micro-batches."""

import json
import pathlib
import random

from pyspark.ml.recommendation import ALS
from pyspark.sql import functions as F

import relational
from results import Outcome

USERS, ITEMS, RATINGS = 1_200, 600, 50_000
VERTICES, EDGES = 2_000, 20_000
BATCHES, BATCH_ROWS = 4, 4_000


def als(spark, _folder):
    """The factors depend on the order of float sums, so predictions are compared, not bits."""
    number = F.col("id")
    ratings = spark.range(0, RATINGS, 1, 4).select(
        relational.drawn(number, USERS, 11).cast("int").alias("user"),
        relational.drawn(number, ITEMS, 12).cast("int").alias("item"),
        (relational.drawn(number, 50, 13) / 10.0).cast("float").alias("rating"),
    )
    model = ALS(rank=6, maxIter=4, regParam=0.1, seed=7, numUserBlocks=4, numItemBlocks=3, userCol="user", itemCol="item", ratingCol="rating").fit(ratings)
    users = {row["id"]: row["features"] for row in model.userFactors.collect()}
    items = {row["id"]: row["features"] for row in model.itemFactors.collect()}
    asked = [(user, item) for user in sorted(users)[::40] for item in sorted(items)[::40]]
    predictions = tuple(sum(left * right for left, right in zip(users[user], items[item])) for user, item in asked)
    return Outcome(len(users) + len(items), f"{sum(users)}/{sum(items)}", predictions, tolerance=1e-3)


def page_rank(spark, folder):
    """GraphX has no Python API; its objects are called through the gateway."""
    chance = random.Random(5)
    edges = folder / "edges.txt"
    edges.write_text("".join(f"{chance.randrange(VERTICES)} {int(chance.random() ** 3 * VERTICES)}\n" for _ in range(EDGES)))
    jvm = spark._jvm
    level = jvm.org.apache.spark.storage.StorageLevel.MEMORY_ONLY()
    graph = jvm.org.apache.spark.graphx.GraphLoader.edgeListFile(spark._jsc.sc(), edges.as_uri(), False, 4, level, level)
    whole = getattr(getattr(jvm.scala.reflect, "ClassTag$"), "MODULE$").Int()
    ranks = jvm.org.apache.spark.graphx.lib.PageRank.run(graph, 6, 0.15, whole, whole).vertices()
    ranks.toJavaRDD().saveAsTextFile((folder / "ranks").as_uri())
    lines = [line for part in sorted((folder / "ranks").glob("part-*")) for line in part.read_text().split()]
    found = sorted((int(vertex), float(rank)) for vertex, rank in (line.strip("()").split(",") for line in lines))
    return Outcome(len(found), str(sum(vertex for vertex, _ in found)), tuple(rank for _, rank in found), tolerance=1e-9)


def written_batches(folder):
    """One file for each micro-batch."""
    incoming = folder / "incoming"
    incoming.mkdir()
    for batch in range(BATCHES):
        chance = random.Random(batch)
        rows = [json.dumps({"key": chance.randrange(500), "value": chance.randrange(10**9)}) for _ in range(BATCH_ROWS)]
        (incoming / f"{batch:02}.json").write_text("\n".join(rows))
    return incoming


def micro_batches(spark, folder: pathlib.Path):
    """A stateful aggregation: every micro-batch shuffles anew, its state stays."""
    relational.with_settings(spark, shuffle__partitions=4)
    stream = spark.readStream.schema("key long, value long").option("maxFilesPerTrigger", 1).json(written_batches(folder).as_uri())
    summed = stream.groupBy("key").agg(F.count("*").alias("count"), F.sum("value").alias("sum"), F.max("value").alias("most"))
    query = (
        summed.writeStream.outputMode("complete").format("memory").queryName("summed")
        .option("checkpointLocation", (folder / "states").as_uri()).trigger(availableNow=True).start()
    )
    query.awaitTermination()
    batches = sum(progress["numInputRows"] > 0 for progress in query.recentProgress)
    assert batches == BATCHES, f"{batches} micro-batches, not {BATCHES}"
    return relational.digest(spark.table("summed"), [f"{batches} micro-batches"])
