"""Runs test suites that other projects wrote against a Watershed broker, against Apache Kafka, or against any broker.

    foreign.py --broker PROGRAM [--cores 1] [--quick] [NAME ...]    starts Watershed for each suite and scenario
    foreign.py --kafka [NAME ...]                                   starts Apache Kafka with the same settings
    foreign.py --target HOST:PORT NAME [TEST ...]                   single tests against what listens there

--all runs also the tests that are out, to see whether they still fail; only those that must pass decide the exit code.
"""

import argparse
import collections
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import tools  # noqa: E402
from harness import foreign  # noqa: E402
from harness.broker import Broker, Kafka  # noqa: E402


def started(arguments, suite, scenario):
    """A broker with the settings of a scenario."""
    settings = suite.brokers()[scenario]
    if arguments.kafka:
        broker = Kafka(tools.kafka_jars(), settings=settings)
    else:
        broker = Broker(arguments.broker, f"foreign-{suite.name}-{arguments.cores.replace(':', '-')}", arguments.cores, settings)
        # As in the properties that the measure is given: a suite may ask where the value comes from.
        broker.settings.append(f"advertised.listeners=PLAINTEXT://{broker.target}")
    broker.start()
    return broker


def run_scenario(arguments, suite, scenario, tests):
    broker = started(arguments, suite, scenario)
    try:
        outcomes = foreign.run(suite, broker.target, tests, arguments.quick)
        if not broker.alive():
            outcomes["the broker"] = f"died: {broker.log_end()}"
        broker.stop()
        return outcomes
    finally:
        if broker.alive():
            broker.kill()


def told(suite, outcomes, seconds):
    """Prints what happened and returns the failures that count."""
    counts = collections.Counter(outcome.split(":")[0] for outcome in outcomes.values())
    print(f"  {suite.name}: {', '.join(f'{count} {outcome}' for outcome, count in sorted(counts.items()))}; {len(suite.chosen(('out',)))} listed as out, in {seconds:.0f} s", flush=True)
    for test, outcome in outcomes.items():
        if suite.level.get(test) == "out":
            print(f"  out  {test}: {outcome}", flush=True)
    return [f"{test} {outcome}" for test, outcome in outcomes.items() if outcome != foreign.PASSED and suite.level.get(test) != "out"]


def run_suite(arguments, name):
    suite = foreign.load(name)
    suite.module.install()
    begun = time.monotonic()
    problems = foreign.list_problems(suite, suite.module.known())
    levels = ("quick",) if arguments.quick else ("quick", "full", "out") if arguments.all else ("quick", "full")
    outcomes = {}
    for scenario in suite.brokers():
        if tests := suite.of_scenario(scenario, suite.chosen(levels)):
            outcomes |= run_scenario(arguments, suite, scenario, tests)
    if not outcomes:
        problems.append("no test was run")
    problems += told(suite, outcomes, time.monotonic() - begun)
    for problem in problems:
        print(f"  FAIL {name}: {problem}", flush=True)
    return not problems


def single_tests(target, name, tests):
    suite = foreign.load(name)
    suite.module.install()
    outcomes = suite.module.run(target, tests or suite.chosen(("quick", "full")), False)
    for test, outcome in outcomes.items():
        print(f"  {outcome} {test}", flush=True)
    return all(outcome == foreign.PASSED for outcome in outcomes.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--broker", type=pathlib.Path)
    where.add_argument("--kafka", action="store_true")
    where.add_argument("--target")
    parser.add_argument("--cores", default="1")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    if arguments.target:
        return 0 if single_tests(arguments.target, arguments.names[0], arguments.names[1:]) else 1
    unknown = set(arguments.names) - set(foreign.NAMES)
    if unknown:
        parser.error(f"no suite named {', '.join(sorted(unknown))}; there are {', '.join(foreign.NAMES)}")
    failed = [name for name in arguments.names or foreign.NAMES if not run_suite(arguments, name)]
    print(f"  failed: {', '.join(failed)}" if failed else "  every foreign suite passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
