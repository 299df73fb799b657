"""Suites that other projects wrote: which of their tests must pass here, and whether they did.

A suite is a folder with `foreign.py`, which knows how to install, list and run the tests, `tests.txt`, which says of every one of them what we
expect, and `FINDINGS.md`, which says why some are out. A line of `tests.txt` is `quick NAME` (must pass, in every check), `full NAME` (must
pass, in the long check), `out NAME` or `local NAME` (needs no broker and says nothing about one). A test that is not in the list, one that is
in the list and no longer exists, one that is out and not explained: each is a failure, so that nothing drops out of sight.
"""

import dataclasses
import importlib.util
import os
import pathlib
import signal
import subprocess

CLIENTS = pathlib.Path(__file__).resolve().parents[1]
NAMES = ("librdkafka-tests", "franz-go-tests", "kafka-python-tests")
LEVELS = ("quick", "full", "out", "local")
PASSED = "passed"


@dataclasses.dataclass(frozen=True)
class Foreign:
    """One such suite: `module` is its `foreign.py`, `level` the expectation of each test by its name."""

    name: str
    module: object
    level: dict

    def chosen(self, levels):
        return [test for test, level in self.level.items() if level in levels]

    def brokers(self):
        """The settings of the broker for each scenario; a test `scenario/name` belongs to its scenario, the rest to the first."""
        return self.module.SCENARIOS

    def of_scenario(self, scenario, tests):
        first = next(iter(self.brokers()))
        return [test for test in tests if (test.split("/")[0] if test.split("/")[0] in self.brokers() else first) == scenario]


def load(name):
    folder = CLIENTS / name
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), folder / "foreign.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Foreign(name, module, listed(folder / "tests.txt"))


def listed(path):
    """The expectations of a `tests.txt`, in its order."""
    level = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            word, test = line.split(maxsplit=1)
            assert word in LEVELS and test not in level, f"{path.parent.name}/{path.name}: {line}"
            level[test] = word
    return level


def list_problems(suite, known):
    """What is wrong with the list itself: tests that it does not know, that are gone, or whose absence nobody explains."""
    findings = (CLIENTS / suite.name / "FINDINGS.md").read_text()
    problems = [f"{test} is not in tests.txt" for test in known if test not in suite.level]
    problems += [f"{test} is in tests.txt and no longer exists" for test in suite.level if test not in known]
    problems += [f"{test} is out and FINDINGS.md does not say why" for test in suite.chosen(("out",)) if f"`{test}`" not in findings]
    return problems


def run(suite, target, tests, quick):
    """Runs the tests, and once more, alone, those that must pass and did not; returns the outcome of each."""
    outcomes = dict.fromkeys(tests, "did not run") | suite.module.run(target, tests, quick)
    for test in [test for test in tests if outcomes[test] != PASSED and suite.level[test] != "out"]:
        first = outcomes[test]
        outcomes[test] = suite.module.run(target, [test], quick).get(test, "did not run")
        print(f"  note {suite.name}: {test} {first}; alone, again: {outcomes[test]}", flush=True)
    return outcomes


def limited(arguments, seconds, log, **options):
    """Runs a command with its output in a file; ends its process group when the time is over. Returns whether it ended by itself."""
    with open(log, "wb") as out:
        process = subprocess.Popen(list(map(str, arguments)), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, **options)
        try:
            process.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return False
