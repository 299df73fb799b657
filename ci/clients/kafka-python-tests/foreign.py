"""kafka-python's integration tests, from its sdist, against a broker that runs already.

Its fixtures know such a broker by `KAFKA_URI`; `service.py` stands in for the module that the sdist leaves out.
"""

import os
import pathlib
import re
import shutil
import sys
import tarfile

import tools
from harness import foreign

HERE = pathlib.Path(__file__).resolve().parent
RELEASE = "kafka-python==3.0.12"
PACKAGES = ["pytest==9.0.2", "pytest-mock==3.15.1", "pytest-timeout==2.4.0", "py==1.11.0"]
SCENARIOS = {"default": ["num.partitions=4", "group.initial.rebalance.delay.ms=0", "group.min.session.timeout.ms=1000", "node.id=0"]}
ROOT = tools.TOOLS / "kafka-python-tests"
SECONDS_MAX = 600


def install():
    tools.python()
    tools.stamped("kafka-python-tests", [pathlib.Path(__file__), HERE / "service.py", tools.CLIENTS / "requirements.txt"], build)


def build():
    """A virtual environment on top of the one that holds the clients, and the sdist's tests."""
    shutil.rmtree(ROOT, ignore_errors=True)
    tools.command([sys.executable, "-m", "venv", str(ROOT / "venv")])
    pip = [str(ROOT / "venv/bin/pip"), "--disable-pip-version-check", "-q"]
    tools.command([*pip, "install", "-r", str(tools.CLIENTS / "requirements.txt"), *PACKAGES])
    tools.command([*pip, "download", "--no-deps", "--no-binary", ":all:", "-d", str(ROOT), RELEASE])
    (sdist,) = ROOT.glob("kafka_python-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(ROOT, filter="data")
    (folder,) = ROOT.glob("kafka_python-*/")
    shutil.move(folder / "test", ROOT / "test")
    shutil.rmtree(folder)
    (ROOT / "test/__init__.py").touch()
    shutil.copy(HERE / "service.py", ROOT / "test/service.py")


def pytest(target, arguments, log):
    # `KAFKA_ROOT` must be a folder; nothing is started from it.
    environment = dict(os.environ, PYTHONPATH=str(ROOT), KAFKA_URI=f"kafka://{target}", KAFKA_VERSION="4.2", KAFKA_ROOT=str(ROOT))
    command = [ROOT / "venv/bin/python", "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:logging", "--timeout=120", "--tb=short", "-q", *arguments]
    foreign.limited(command, SECONDS_MAX, log, cwd=ROOT, env=environment)
    return log.read_text(errors="replace")


def known():
    listing = pytest("127.0.0.1:1", ["--collect-only", "test/integration"], ROOT / "known.log")
    return [short(test) for test in re.findall(r"^test/integration/\S+::.+$", listing, re.MULTILINE)]


def short(test):
    """`admin::test_x` for `test/integration/test_admin_integration.py::test_x`."""
    return re.sub(r"^test/integration/test_(\w+)_integration\.py::", r"\1::", test)


def run(target, tests, _quick):
    places = [re.sub(r"^(\w+?)::", r"test/integration/test_\1_integration.py::", test) for test in tests]
    text = pytest(target, ["-rA", *places], ROOT / "run.log")
    outcomes = {}
    for word, test in re.findall(r"^(PASSED|FAILED|ERROR) (test/integration/\S+)", text, re.MULTILINE):
        outcomes[short(test)] = {"PASSED": foreign.PASSED, "FAILED": "failed", "ERROR": "failed"}[word]
    return {test: outcomes.get(test, "skipped") for test in tests}
