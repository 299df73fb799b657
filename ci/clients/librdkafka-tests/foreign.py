"""librdkafka's own tests, built from the sources that the crate `rdkafka-sys` carries.

A test is `NAME` as in its `test.c`, `NAME:FUNCTION` where one holds parts that are in scope and parts that are not (each part is then run in a
process of its own), or `noautocreate/NAME` for those that librdkafka itself runs against a broker that creates no topics. Tests against its
own mock cluster (by flag or by name), and those that it wants started by hand, are not ours to run.
"""

import concurrent.futures
import os
import pathlib
import re
import shutil

import tools
from harness import foreign

HERE = pathlib.Path(__file__).resolve().parent
SETTINGS = ["num.partitions=4", "group.initial.rebalance.delay.ms=1000"]
SCENARIOS = {"default": SETTINGS, "noautocreate": [*SETTINGS, "auto.create.topics.enable=false"]}
NEVER = ("TEST_F_LOCAL", "TEST_F_MANUAL", "TEST_F_KNOWN_ISSUE,")
BY_FUNCTION = {"0011_produce_batch": "0011-produce_batch.c", "0081_admin": "0081-admin.c", "0137_barrier_batch_consume": "0137-barrier_batch_consume.c"}
BY_TITLE = {
    "0055_producer_latency": ("standard settings", "low linger", "microsecond linger", "high linger", "linger.ms < 1000", "no acks", "idempotence", "transactions"),
    "0061_consumer_lag": ("without transactions", "with transactions"),
}
ROOT = tools.TOOLS / "librdkafka-tests"
SOURCES = ROOT / "librdkafka"
LONGEST = "0113_cooperative_rebalance"
AT_ONCE = 4
SECONDS_MAX = 900
BUILD_PACKAGES = {"gcc": "gcc", "g++": "g++", "make": "make"}


def install():
    """The sources by cargo, the test program by their own build, and Kafka's tools, which a few of the tests call."""
    for program, package in BUILD_PACKAGES.items():
        tools.debian(program, package)
    tools.stamped("librdkafka-tests", [HERE / "sources.toml"], build)
    topics = ROOT / "kafka/bin/kafka-topics.sh"
    topics.parent.mkdir(parents=True, exist_ok=True)
    topics.write_text(f"#!/bin/sh\nexec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp '{tools.kafka_jars()}/*' org.apache.kafka.tools.TopicCommand \"$@\"\n")
    topics.chmod(0o755)


def build():
    shutil.rmtree(ROOT, ignore_errors=True)
    (ROOT / "src").mkdir(parents=True)
    (ROOT / "src/lib.rs").write_text("")
    shutil.copy(HERE / "sources.toml", ROOT / "Cargo.toml")
    tools.command(["cargo", "vendor", "--quiet", "vendor"], cwd=ROOT)
    shutil.move(ROOT / "vendor/rdkafka-sys/librdkafka", SOURCES)
    shutil.rmtree(ROOT / "vendor")
    (SOURCES / "configure").chmod(0o755)
    tools.command(["bash", "./configure", "--disable-gssapi", "--disable-ssl", "--disable-curl"], cwd=SOURCES)
    tools.command(["make", "-j2", "libs"], cwd=SOURCES)
    tools.command(["make", "-j2", "-C", "tests", "build"], cwd=SOURCES)


def known():
    """Every test that talks to a broker."""
    table = re.search(r"^struct test tests\[\] = \{$(.*?)^\s*\{NULL\}\};$", (SOURCES / "tests/test.c").read_text(), re.DOTALL | re.MULTILINE).group(1)
    names = []
    for name, rest in re.findall(r"_TEST\((\w+),(.*?)(?=_TEST\(|\Z)", table, re.DOTALL):
        if not any(flag in rest for flag in NEVER) and not name.endswith("_mock"):
            names += [f"noautocreate/{name}"] if '"noautocreate"' in rest else parts_of(name)
    return names


def parts_of(name):
    if name in BY_FUNCTION:
        source = (SOURCES / "tests" / BY_FUNCTION[name]).read_text()
        functions = re.findall(r"^(?:static )?void ((?:do_)?test_\w+)\([^;]*?\) \{(.*?)^\}", source, re.DOTALL | re.MULTILINE)
        return [f"{name}:{function}" for function, body in functions if "SUB_TEST" in body]
    return [f"{name}:{title}" for title in BY_TITLE.get(name, ())] or [name]


def run(target, tests, quick):
    """Runs whole tests in one process, in librdkafka's way of running several at once; the longest one and parts of tests in processes of their own."""
    many = [test for test in tests if ":" not in test and test != LONGEST]
    jobs = [([test], None) for test in tests if test == LONGEST] + ([(many, None)] if many else [])
    jobs += [([test], test.split(":", 1)[1]) for test in tests if ":" in test]
    outcomes = {}
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for found in pool.map(lambda job: run_process(target, quick, *job), jobs):
            outcomes |= found
    return outcomes


def run_process(target, quick, tests, part):
    folder = ROOT / "runs" / re.sub(r"\W+", "-", f"{target}-{tests[0] if len(tests) == 1 else 'many'}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "test.conf").write_text(f"bootstrap.servers={target}\ntest.timeout.multiplier=3\n")
    environment = dict(
        os.environ, LD_LIBRARY_PATH=f"{SOURCES}/src:{SOURCES}/src-cpp", RDKAFKA_TEST_CONF="test.conf", TEST_KAFKA_VERSION="4.2.1",
        KAFKA_PATH=str(ROOT / "kafka"), BROKERS=target, TESTS=",".join(bare(test) for test in tests),
    )
    if part:
        environment["SUBTESTS"] = f"{part}:" if bare(tests[0]) in BY_FUNCTION else part
    arguments = [SOURCES / "tests/test-runner", f"-p{AT_ONCE}", "-L", *(["-Q"] if quick else [])]
    if any(test.startswith("noautocreate/") for test in tests):
        arguments += ["-s", "noautocreate"]
    foreign.limited(arguments, SECONDS_MAX, folder / "log", cwd=folder, env=environment)
    return {test: outcome(folder / "log", bare(test), part) for test in tests}


def bare(test):
    return test.split("/")[-1].split(":")[0]


def outcome(log, name, part):
    """What the program's summary says of a test; a part of which nothing says that it passed did not run."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace"))
    rows = re.findall(rf"^\| {name} +\| +(\w+) \|[^|]*\|(.*)", text, re.MULTILINE)
    if not rows:
        return "did not end"
    word, reason = rows[-1]
    if word != "PASSED":
        return f"{word.lower()}: {reason.strip()[:200]}"
    return foreign.PASSED if part is None or re.search(rf"\[ [^\n]*{re.escape(part)}[^\n]*: PASS", text) else "did not run"
