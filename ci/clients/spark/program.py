"""The program that Spark runs: one session, the jobs that its order names, one line of JSON for each into the order's report.

    program.py ORDER        a JSON file: `confs`, `jobs`, `folder`, `report`

Each job's stages carry its name as a local property, by which the event log is read.
"""

import dataclasses
import json
import pathlib
import sys
import threading
import time

from pyspark.sql import SparkSession

import libraries
import rdds
import relational

JOBS = {
    job.__name__: job
    for job in (
        relational.repartition, relational.sort, relational.wide, relational.skew, relational.three_way,
        rdds.group_by_key, rdds.sort_by_key, rdds.cogroup, rdds.lost_attempts, rdds.stragglers, rdds.unhurried,
        libraries.als, libraries.page_rank, libraries.micro_batches,
    )
}
JOB_PROPERTY = "watershed.job"


class Report:
    """The lines that the suite reads while the program runs."""

    def __init__(self, path):
        self.file = open(path, "a", buffering=1)
        self.lock = threading.Lock()

    def tell(self, **what):
        with self.lock:
            self.file.write(json.dumps(what) + "\n")


def watch(context, report, over):
    """Tells how many tasks of each running stage are done, whenever that changes."""
    told = {}
    while not over.wait(0.05):
        for stage in context.statusTracker().getActiveStageIds():
            seen = context.statusTracker().getStageInfo(stage)
            if seen and told.get(stage) != seen.numCompletedTasks:
                told[stage] = seen.numCompletedTasks
                report.tell(stage=stage, done=seen.numCompletedTasks, of=seen.numTasks)


def run_job(spark, name, folder, report):
    """Runs a job and tells what it gave; SQL properties that it sets end with it."""
    spark.sparkContext.setLocalProperty(JOB_PROPERTY, name)
    folder.mkdir(parents=True)
    session, started = spark.newSession(), time.monotonic()
    try:
        outcome = JOBS[name](session, folder)
        report.tell(job=name, seconds=time.monotonic() - started, outcome=dataclasses.asdict(outcome))
    except Exception as error:
        report.tell(job=name, seconds=time.monotonic() - started, error=f"{type(error).__name__}: {error}"[:4000])


def main():
    order = json.loads(pathlib.Path(sys.argv[1]).read_text())
    report = Report(order["report"])
    builder = SparkSession.builder
    for name, value in order["confs"].items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("INFO" if order.get("verbose") else "WARN")
    over = threading.Event()
    if order.get("watched"):
        threading.Thread(target=watch, args=(spark.sparkContext, report, over), daemon=True).start()
    for name in order["jobs"]:
        run_job(spark, name, pathlib.Path(order["folder"]) / name, report)
    over.set()
    spark.stop()
    report.tell(ended=True)


if __name__ == "__main__":
    main()
