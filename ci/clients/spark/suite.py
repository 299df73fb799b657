#!/usr/bin/env python3
"""Real Spark jobs shuffled through Watershed: every result must be that of Spark's own sort shuffle.

    suite.py --shuffle PROGRAM [--full] [--cells N,N] [--jobs NAME,NAME] [--no-kills]

The measure is one run of all jobs with the sort shuffle, kept under target/ for the same Spark and the same jobs. Then come the cells of the
matrix, one session and one server each: transport of the client, master, memory of the server, its shards. The event log must name the
client's manager, and each job must have written as many records through it as through the sort shuffle. Last, the server is killed.
"""

import argparse
import dataclasses
import hashlib
import json
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

import results  # noqa: E402
import tools  # noqa: E402
from events import RSS_MANAGER  # noqa: E402
from kills import CASES, try_kill  # noqa: E402
from server import ShuffleServer  # noqa: E402
from session import LOCAL, LOCAL_CLUSTER, MEASURE_MASTER, TWO_HOSTS, Session, outcome_of, run, shuffle_settings  # noqa: E402

RELATIONAL = ("repartition", "sort", "wide", "skew", "three_way")
RDDS = ("group_by_key", "sort_by_key", "cogroup")
LIBRARIES = ("als", "page_rank", "micro_batches")
ATTEMPTS = ("lost_attempts", "stragglers")
KILLED = ("unhurried",)
CLIENTS = ("GRPC", "GRPC_NETTY")
EVERY_JOB = (*RELATIONAL, *RDDS, *LIBRARIES)
PROGRAM_FILES = ("program.py", "relational.py", "rdds.py", "libraries.py", "results.py", "requirements.txt")
# Bytes that must have been shuffled, or the job is not what it is there for.
BYTES_MIN = {"repartition": 70 << 20, "sort": 40 << 20, "wide": 10 << 20, "skew": 40 << 20}
SESSION_SECONDS_MAX = 600.0
DISK_BYTES_MIN = 8 << 20
# Small send buffers, so that an attempt that is lost has sent blocks before.
ATTEMPT_SETTINGS = {
    "spark.speculation": "true", "spark.speculation.interval": "200ms", "spark.speculation.quantile": "0.5", "spark.speculation.multiplier": "2",
    "spark.rss.writer.buffer.spill.size": "512k",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One session against one server."""

    client: str
    master: str
    memory: str
    cores: str
    jobs: tuple

    @property
    def name(self):
        return f"{self.client} {self.master} {self.memory} {self.cores}"


PLENTY, SCARCE, SCARCE_SHARDED = "1024MiB", "64MiB", "144MiB"  # the least for three shards
LAYOUTS = (("1", PLENTY), ("1", SCARCE), ("unbound:3", PLENTY), ("unbound:3", SCARCE_SHARDED))
QUICK = (
    Cell("GRPC", LOCAL, PLENTY, "1", ("sort", "three_way", *RDDS, *LIBRARIES)),
    Cell("GRPC_NETTY", LOCAL_CLUSTER, SCARCE_SHARDED, "unbound:3", ("repartition", "sort", "skew", "group_by_key", "micro_batches")),
    Cell("GRPC", LOCAL, SCARCE, "1", ("repartition", "wide", "skew")),
    Cell("GRPC_NETTY", TWO_HOSTS, PLENTY, "unbound:3", ATTEMPTS),
)
FULL = (
    *(Cell(client, master, memory, cores, EVERY_JOB) for client in CLIENTS for master in (LOCAL, LOCAL_CLUSTER) for cores, memory in LAYOUTS),
    *(Cell(client, TWO_HOSTS, memory, cores, ATTEMPTS) for client in CLIENTS for cores, memory in LAYOUTS[1:3]),
)


def measured():
    """Outcome and records written of every job with Spark's own shuffle."""
    digest = hashlib.sha256()
    for name in PROGRAM_FILES:
        digest.update((HERE / name).read_bytes())
    kept = tools.TOOLS / f"spark-measure-{digest.hexdigest()[:16]}.json"
    if not kept.exists():
        started = time.monotonic()
        found = run(Session("measure", MEASURE_MASTER, [*EVERY_JOB, *ATTEMPTS, *KILLED]), SESSION_SECONDS_MAX)
        failed = {name: line["error"] for name, line in found.lines.items() if "error" in line}
        if failed:
            raise RuntimeError(f"with Spark's own shuffle: {failed}")
        kept.write_text(json.dumps({name: [line, found.log.totals[name].records_written] for name, line in found.lines.items()}))
        print(f"  measured with Spark's own shuffle in {time.monotonic() - started:.0f} s", flush=True)
    return {name: (outcome_of(line), records, line["seconds"]) for name, (line, records) in json.loads(kept.read_text()).items()}


def complaint(name, line, totals, measure):
    """What is wrong with a job's run, or None."""
    if line is None:
        return "not run"
    if "error" in line:
        return line["error"]
    wanted, records, _ = measure[name]
    if told := results.difference(wanted, outcome_of(line)):
        return told
    if totals.bytes_written < BYTES_MIN.get(name, 1):
        return f"{totals.bytes_written} bytes shuffled"
    if totals.records_written != records:
        return f"{totals.records_written} records shuffled, not {records}"
    if name == "lost_attempts" and totals.lost_tasks == 0:
        return "no attempt was lost"
    if name == "stragglers" and totals.speculative_tasks == 0:
        return "nothing was run speculatively"
    return None


def judge(cell, found, measure):
    """Prints a line for each job of the cell; returns the names of those that failed."""
    failed = []
    if found.log.manager != RSS_MANAGER:
        print(f"  FAIL {cell.name}: the event log names {found.log.manager}", flush=True)
        failed.append(cell.name)
    for name in cell.jobs:
        line, totals = found.lines.get(name), found.log.totals.get(name)
        wrong = complaint(name, line, totals, measure)
        if wrong:
            failed.append(f"{name} ({cell.name})")
            print(f"  FAIL {cell.name}: {name}: {wrong}", flush=True)
            continue
        facts = "".join(f", {fact}" for fact in line["outcome"]["facts"])
        lost = f", {totals.lost_tasks} attempts lost" if totals.lost_tasks else ""
        print(
            f"  ok   {cell.name}: {name} {line['seconds']:.1f} s (sort {measure[name][2]:.1f} s), "
            f"{totals.bytes_written / (1 << 20):.1f} MiB, {totals.records_written} records{lost}{facts}", flush=True,
        )
    return failed


def from_disk(server, cell):
    """Whether a server with little memory wrote blocks to its disk and read them back; prints what it moved."""
    written, read = server.moved_bytes()
    right = cell.memory == PLENTY or min(written, read) >= DISK_BYTES_MIN
    print(f"  {'ok  ' if right else 'FAIL'} {cell.name}: {written >> 20} MiB to the server's disk, {read >> 20} MiB from it", flush=True)
    return right


def run_cell(number, cell, program, measure):
    """Starts a server, runs the jobs of the cell and stops both; returns the names of what failed."""
    server = ShuffleServer(program, f"spark-server-{number}", cell.cores, cell.memory)
    try:
        print(f"  {cell.name}: server ready in {server.start():.2f} s at {server.target}", flush=True)
        settings = ATTEMPT_SETTINGS if cell.master == TWO_HOSTS else {}
        session = Session(f"cell-{number}", cell.master, cell.jobs, shuffle_settings(cell.client, server.target), settings=settings)
        failed = judge(cell, run(session, SESSION_SECONDS_MAX), measure)
        if not server.alive():
            raise RuntimeError(f"the server died: {server.log_end()}")
        if cell.jobs[0] == "repartition" and not from_disk(server, cell):
            failed.append(f"disk ({cell.name})")
        server.stop()
        return failed
    except RuntimeError as reason:
        print(f"  FAIL {cell.name}: {reason}", flush=True)
        return [cell.name]
    finally:
        if server.alive():
            server.kill()


def chosen_cells(arguments):
    cells = list(enumerate(FULL if arguments.full else QUICK))
    if arguments.cells:
        cells = [cells[int(number)] for number in arguments.cells.split(",")]
    if arguments.jobs:
        wanted = arguments.jobs.split(",")
        cells = [(number, dataclasses.replace(cell, jobs=tuple(job for job in cell.jobs if job in wanted))) for number, cell in cells]
    return [(number, cell) for number, cell in cells if cell.jobs]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shuffle", type=pathlib.Path, required=True)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--cells", help="only these, by their number from 0")
    parser.add_argument("--jobs", help="only these")
    parser.add_argument("--kills", help="`none`, or only these, by their number from 0")
    arguments = parser.parse_args()
    print(f"  {results.prove()} planted differences were told", flush=True)
    measure, failed, started = measured(), [], time.monotonic()
    for number, cell in chosen_cells(arguments):
        failed += run_cell(number, cell, arguments.shuffle, measure)
    cases = [case for case in CASES if arguments.full or case.quick]
    if arguments.kills:
        cases = [] if arguments.kills == "none" else [CASES[int(number)] for number in arguments.kills.split(",")]
    for case in cases:
        if not try_kill(case, arguments.shuffle, measure[KILLED[0]][0]):
            failed.append(case.name)
    print(f"  failed: {', '.join(failed)}" if failed else f"  every Spark job gave what the sort shuffle gives, in {time.monotonic() - started:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
