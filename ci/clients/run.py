"""Runs the client suites against a Watershed broker that it starts, or with --target against any broker.

    run.py --broker PROGRAM [--cores 1] [SUITE ...]     starts a broker and runs the suites
    run.py --target HOST:PORT [SUITE ...]               runs the suites against what listens there
"""

import argparse
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import tools  # noqa: E402
from harness.broker import Broker  # noqa: E402

SUITES = ("kcat", "cli", "java", "confluent-kafka", "kafka-python", "aiokafka", "franz-go", "kafkajs", "groups", "malformed")
SUITE_SECONDS_MAX = 300
MESH_CALLS = "watershed_mesh_calls"


def command(suite, target, pid, watershed):
    """The command line of one suite; installs what it needs."""
    if suite == "java":
        return ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-cp", tools.java_driver(), "Driver", target]
    if suite == "franz-go":
        return [str(tools.franz_go()), target]
    if suite == "kafkajs":
        return ["node", str(HERE / suite / "suite.js"), target]
    if suite in ("kcat", "cli"):
        tools.kcat()
    return [str(tools.python()), str(HERE / suite / "suite.py"), target, "--pid", str(pid), *(["--watershed"] if watershed else [])]


def run_suite(suite, target, pid, watershed):
    started = time.monotonic()
    try:
        arguments = command(suite, target, pid, watershed)
        paths = {"PYTHONPATH": str(HERE), **({"NODE_PATH": str(tools.kafkajs())} if suite == "kafkajs" else {})}
        done = subprocess.run(arguments, env=dict(os.environ, **paths), stdin=subprocess.DEVNULL, timeout=SUITE_SECONDS_MAX)
        passed = done.returncode == 0
    except (tools.Unavailable, subprocess.TimeoutExpired) as reason:
        print(f"  FAIL {suite}: {reason}", flush=True)
        passed = False
    print(f"  {'passed' if passed else 'FAILED'} {suite} in {time.monotonic() - started:.1f} s", flush=True)
    return passed


def run_with_broker(arguments):
    os.environ["WATERSHED_PROGRAM"] = str(arguments.broker)
    broker = Broker(arguments.broker, f"suites-{arguments.cores.replace(':', '-')}", arguments.cores, ["num.partitions=4", "group.initial.rebalance.delay.ms=500", *arguments.set])
    print(f"  broker with {' '.join(['--cores', arguments.cores, *arguments.set])} ready in {broker.start():.2f} s at {broker.target}", flush=True)
    failed = []
    try:
        for suite in arguments.suites or SUITES:
            if not run_suite(suite, broker.target, broker.pid, True):
                failed.append(suite)
            if not broker.alive():
                print(f"  FAIL the broker died: {broker.log_end()}", flush=True)
                return [*failed, "the broker died"]
        if arguments.cores != "1" and not calls_crossed(broker):
            failed.append("no call between shards")
        broker.stop()
    finally:
        if broker.alive():
            broker.kill()
    return failed


def calls_crossed(broker):
    calls = sum(value for name, value in broker.metrics().items() if name.startswith(MESH_CALLS))
    print(f"  {'ok  ' if calls > 0 else 'FAIL'} {calls:.0f} calls between shards", flush=True)
    return calls > 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--target")
    where.add_argument("--broker", type=pathlib.Path)
    parser.add_argument("--pid", type=int, default=0, help="with --target: the broker's process, to watch its memory")
    parser.add_argument("--cores", default="1")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="with --broker: a setting of the broker")
    parser.add_argument("suites", nargs="*", metavar="SUITE")
    arguments = parser.parse_args()
    unknown = set(arguments.suites) - set(SUITES)
    if unknown:
        parser.error(f"no suite named {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    if arguments.target:
        failed = [suite for suite in arguments.suites or SUITES if not run_suite(suite, arguments.target, arguments.pid, False)]
    else:
        failed = run_with_broker(arguments)
    print(f"  failed: {', '.join(failed)}" if failed else "  every client suite passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
