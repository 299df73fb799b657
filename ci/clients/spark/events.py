"""Reads Spark's event log: which shuffle manager ran, and what each job of the program wrote and read through it."""

import dataclasses
import json

JOB_PROPERTY = "watershed.job"
RSS_MANAGER = "org.apache.spark.shuffle.RssShuffleManager"


@dataclasses.dataclass
class Totals:
    """Sums over the tasks of one job; what failed or was killed counts only as such."""

    bytes_written: int = 0
    records_written: int = 0
    bytes_read: int = 0
    records_read: int = 0
    lost_tasks: int = 0
    speculative_tasks: int = 0

    def add(self, event):
        info, metrics = event["Task Info"], event.get("Task Metrics") or {}
        self.speculative_tasks += bool(info.get("Speculative"))
        if event["Task End Reason"]["Reason"] != "Success":
            self.lost_tasks += 1
            return
        written, read = metrics.get("Shuffle Write Metrics", {}), metrics.get("Shuffle Read Metrics", {})
        self.bytes_written += written.get("Shuffle Bytes Written", 0)
        self.records_written += written.get("Shuffle Records Written", 0)
        self.bytes_read += read.get("Remote Bytes Read", 0) + read.get("Local Bytes Read", 0)
        self.records_read += read.get("Total Records Read", 0)


class EventLog:
    """The log of one session, read after it has ended."""

    def __init__(self, folder):
        self.manager, self.totals, self.stage_jobs = None, {}, {}
        (path,) = folder.iterdir()
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                self.take(json.loads(line))

    def take(self, event):
        kind = event["Event"]
        if kind == "SparkListenerEnvironmentUpdate":
            self.manager = event["Spark Properties"].get("spark.shuffle.manager")
        elif kind == "SparkListenerJobStart":
            name = event.get("Properties", {}).get(JOB_PROPERTY)
            self.stage_jobs.update({stage: name for stage in event["Stage IDs"] if name})
        elif kind == "SparkListenerTaskEnd":
            name = self.stage_jobs.get(event["Stage ID"])
            self.totals.setdefault(name, Totals()).add(event)
