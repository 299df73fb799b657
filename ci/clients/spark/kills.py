"""Kill -9 of the shuffle server amid a stage: the job ends within a minute, right or with an error that says why, never with a wrong result."""

import dataclasses
import re
import time

import results
from server import ShuffleServer
from session import LOCAL, LOCAL_CLUSTER, Session, outcome_of, shuffle_settings

JOB = "unhurried"
TASKS, KILLED_AT = 12, 5
END_SECONDS_MAX = 60.0
START_SECONDS_MAX = 90.0
CLEAR = re.compile(r"Rss\w*Exception|FetchFailed\w*|UNAVAILABLE|NO_REGISTER|[Bb]locks read inconsistent")


@dataclasses.dataclass(frozen=True)
class Case:
    """When the server is killed, and whether it comes back on the same ports."""

    client: str
    master: str
    stage: str
    restarted: bool
    quick: bool = False

    @property
    def name(self):
        return f"{self.client} {self.master}: killed amid the {self.stage} stage{', restarted' if self.restarted else ''}"


# A server that comes back does so at once, and tasks are tried again: they must meet it without what it has lost.
PATIENT = "local[2,2]"
CASES = (
    Case("GRPC", LOCAL, "map", False, quick=True),
    Case("GRPC_NETTY", PATIENT, "reduce", True, quick=True),
    Case("GRPC", PATIENT, "map", True),
    Case("GRPC", LOCAL, "reduce", False),
    Case("GRPC", PATIENT, "reduce", True),
    Case("GRPC_NETTY", LOCAL, "map", False),
    Case("GRPC_NETTY", PATIENT, "map", True),
    Case("GRPC_NETTY", LOCAL, "reduce", False),
    Case("GRPC", LOCAL_CLUSTER, "map", True),
    Case("GRPC_NETTY", LOCAL_CLUSTER, "reduce", True),
)


def amid(stage):
    """Whether that stage of the job is under way: the map stage is its first."""

    def reached(lines):
        stages = sorted({line["stage"] for line in lines if line.get("of") == TASKS})
        wanted = stages[:1] if stage == "map" else stages[1:2]
        return any(line.get("stage") in wanted and line["done"] >= KILLED_AT for line in lines)

    return reached


def ended(lines):
    return any("job" in line for line in lines)


def verdict(line, measure):
    """How the job ended, and whether it may end so."""
    if line is None:
        return False, "the job did not end"
    if "error" in line:
        first = re.sub(r"\s+", " ", line["error"])
        clear = CLEAR.search(line["error"]) is not None
        return clear, f"a clear failure ({', '.join(sorted(set(CLEAR.findall(line['error']))))})" if clear else f"an unclear failure: {first[:600]}"
    wrong = results.difference(measure, outcome_of(line))
    return wrong is None, f"A WRONG RESULT: {wrong}" if wrong else "the right result"


def try_kill(case, program, measure):
    """Runs one case; prints and returns how it went."""
    server = ShuffleServer(program, "spark-killed", "1", "256MiB")
    server.start()
    settings = {"spark.rss.writer.buffer.spill.size": "512k", "spark.task.maxFailures": "2"}
    session = Session("killed", case.master, [JOB], shuffle_settings(case.client, server.target), watched=True, settings=settings)
    try:
        session.start()
        if not amid(case.stage)(session.wait(START_SECONDS_MAX, amid(case.stage))) or ended(session.lines()):
            print(f"  FAIL {case.name}: the stage was not reached: {session.lines()[-1:]} {session.log_end()}", flush=True)
            return False
        server.kill()
        killed = time.monotonic()
        if case.restarted:
            server.start()
        lines = session.wait(END_SECONDS_MAX - (time.monotonic() - killed), ended)
        right, told = verdict(next((line for line in lines if "job" in line), None), measure)
        print(f"  {'ok  ' if right else 'FAIL'} {case.name}: {told} after {time.monotonic() - killed:.1f} s", flush=True)
        return right
    finally:
        session.end()
        if server.alive():
            server.kill()
