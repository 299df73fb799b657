"""Runs the Spark program: its settings, its processes, and what it reported."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import tools
from events import RSS_MANAGER, EventLog
from harness.broker import SCRATCH, free_ports
from results import Outcome

HERE = pathlib.Path(__file__).resolve().parent
NO_UNSAFE = "-Dorg.apache.uniffle.shaded.io.netty.noUnsafe=true"
LOCAL, LOCAL_CLUSTER, TWO_HOSTS = "local[2]", "local-cluster[2,1,1024]", "two hosts"
MEASURE_MASTER = "local[2,4]"  # jobs that lose attempts on purpose need some


def plain_settings(folder):
    """What every session has, whatever shuffles."""
    return {
        "spark.driver.memory": "2g", "spark.executor.memory": "1g", "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1", "spark.executor.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.local.dir": str(folder / "local"), "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.eventLog.enabled": "true", "spark.eventLog.dir": (folder / "events").as_uri(),
        "spark.serializer": "org.apache.spark.serializer.KryoSerializer", "spark.sql.shuffle.partitions": "16",
    }


def shuffle_settings(client, target):
    """What a user adds for the shuffle; `client` is its transport."""
    jar = str(tools.uniffle_client())
    settings = {
        "spark.driver.extraClassPath": jar, "spark.executor.extraClassPath": jar,
        "spark.shuffle.manager": RSS_MANAGER, "spark.shuffle.sort.io.plugin.class": "org.apache.spark.shuffle.RssShuffleDataIo",
        "spark.rss.coordinator.quorum": target, "spark.rss.storage.type": "MEMORY_LOCALFILE", "spark.rss.client.type": client,
    }
    return settings, NO_UNSAFE if client == "GRPC_NETTY" else ""


class Session:
    """One run of the program; everything it leaves is in `folder`."""

    def __init__(self, name, master, jobs, shuffle=None, watched=False, settings=()):
        self.folder = SCRATCH / f"spark-{name}"
        shutil.rmtree(self.folder, ignore_errors=True)
        for part in ("events", "local", "jobs"):
            (self.folder / part).mkdir(parents=True)
        self.report, self.process, self.daemons = self.folder / "report", None, []
        self.report.touch()
        confs = dict(plain_settings(self.folder), **{"spark.master": master})
        if shuffle:
            more, option = shuffle
            confs.update(more)
            for side in ("driver", "executor"):
                confs[f"spark.{side}.extraJavaOptions"] += f" {option}"
        confs.update(settings)
        if master == TWO_HOSTS:
            confs["spark.master"] = f"spark://127.0.0.1:{self.start_hosts()}"
        order = {"confs": confs, "jobs": list(jobs), "folder": str(self.folder / "jobs"), "report": str(self.report), "watched": watched}
        (self.folder / "order.json").write_text(json.dumps(order, indent=1))

    def environment(self):
        python = str(tools.spark())
        return dict(
            os.environ, PYTHONPATH=str(HERE), PYSPARK_PYTHON=python, PYSPARK_DRIVER_PYTHON=python, SPARK_LOCAL_IP="127.0.0.1",
            SPARK_WORKER_DIR=str(self.folder / "work"), SPARK_DAEMON_MEMORY="256m", SPARK_HOME=str(spark_home()),
        )

    def launch(self, arguments, log):
        return subprocess.Popen(
            ["nice", *map(str, arguments)], env=self.environment(), cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=open(self.folder / log, "ab"), stderr=subprocess.STDOUT, start_new_session=True,
        )

    def start_hosts(self):
        """A master and two workers with an address each: Spark runs no second attempt on the host of the first."""
        (port,) = free_ports(1)
        deploy, program = "org.apache.spark.deploy", spark_home() / "bin" / "spark-class"
        self.daemons.append(self.launch([program, f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", port, "--webui-port", "0"], "master.log"))
        for host in ("127.0.0.2", "127.0.0.3"):
            place = ["--host", host, "--webui-port", "0", "--cores", "1", "--memory", "1200m", "--work-dir", self.folder / "work"]
            self.daemons.append(self.launch([program, f"{deploy}.worker.Worker", *place, f"spark://127.0.0.1:{port}"], f"worker-{host}.log"))
        return port

    def start(self):
        self.process = self.launch([tools.spark(), HERE / "program.py", self.folder / "order.json"], "log")

    def lines(self):
        """What the program has reported so far; a line being written is not there yet."""
        return [json.loads(line) for line in self.report.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def wait(self, seconds, over=lambda lines: False):
        """Waits until `over` says so, the program ends or the time is up; returns the lines."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None and not over(self.lines()):
            time.sleep(0.1)
        return self.lines()

    def end(self):
        """Kills whatever of it is left."""
        for process in filter(None, [self.process, *reversed(self.daemons)]):
            try:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()

    def finished(self):
        """The event log of a program that has come to its end."""
        if self.process.wait() != 0 or not any("ended" in line for line in self.lines()):
            raise RuntimeError(f"the program ended with {self.process.returncode}: {self.log_end()}")
        return EventLog(self.folder / "events")

    def log_end(self):
        return (self.folder / "log").read_text(errors="replace")[-3000:]


def spark_home():
    (package,) = (tools.spark().parent.parent / "lib").glob("python3*/site-packages/pyspark")
    return package


def outcome_of(line):
    """The outcome in a line of the report."""
    fields = dict(line["outcome"])
    return Outcome(**{**fields, "values": tuple(fields["values"]), "facts": tuple(fields["facts"])})


@dataclasses.dataclass
class Run:
    """What one session gave: a line and a total for each job."""

    lines: dict
    log: EventLog


def run(session, seconds):
    """Starts the session, waits for its end and reads what it left."""
    try:
        session.start()
        lines = session.wait(seconds)
        if session.process.poll() is None:
            done = [line["job"] for line in lines if "job" in line]
            raise RuntimeError(f"not ended within {seconds:.0f} s; jobs done: {', '.join(done) or 'none'}; {session.log_end()}")
        log = session.finished()
    finally:
        session.end()
    return Run({line["job"]: line for line in lines if "job" in line}, log)
