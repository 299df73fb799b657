"""The parts of the check, in order, and how they are run and counted.

A part is a function that returns when all is well and raises `Failed` (or `tools.Unavailable`) when it is not; it returns a sentence instead of
nothing when there was nothing to check yet. A part never passes because its tests did not run.
"""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import time
import typing

import tidy as tidy_rules
import tools

ROOT = tools.ROOT
IMPURE = ("glommio", "io-uring", "tokio", "watershed-daemon")
CANNOT_MOUNT = 77
UNDER_MIRI = ("ops", "spsc", "park", "tasks", "timers", "notify")
RUN_CLIENTS = ROOT / "ci" / "clients" / "run.py"
RUN_FOREIGN = ROOT / "ci" / "clients" / "foreign.py"


class Failed(Exception):
    """A check that did not hold."""


class Skipped(Exception):
    """A part that has nothing to check in this tree."""


def sh(arguments, **environment):
    """Runs a command with its output passed on."""
    done = subprocess.run(arguments, cwd=ROOT, env=dict(os.environ, **environment), stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Failed(f"`{' '.join(map(str, arguments))}` ended with {done.returncode}")


def captured(arguments, **environment):
    """Runs a command, passes its output on and returns it."""
    process = subprocess.Popen(
        arguments, cwd=ROOT, env=dict(os.environ, **environment), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )
    lines = []
    for line in process.stdout:
        sys.stdout.write(line)
        lines.append(line)
    if process.wait() != 0:
        raise Failed(f"`{' '.join(map(str, arguments))}` ended with {process.returncode}")
    return "".join(lines)


def passed_count(output):
    return sum(int(number) for number in re.findall(r"test result: ok\. (\d+) passed", output))


def sources_with(pattern):
    """Rust files of the workspace in which the pattern occurs."""
    found = []
    for crate in tidy_rules.CRATES:
        for path in sorted((ROOT / crate).rglob("*.rs")):
            if "target" not in path.parts and re.search(pattern, path.read_text()):
                found.append(path)
    return found


def fmt(_full):
    sh(["cargo", "fmt", "--all", "--check"])


def clippy(_full):
    sh(["cargo", "clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])


def purity(_full):
    for crate in ("watershed-core", "watershed-broker", "watershed-shuffle"):
        sh(["cargo", "check", "--quiet", "-p", crate, "--lib", "--no-default-features"])
        tree = tools.command(["cargo", "tree", "-p", crate, "-e", "normal", "--no-default-features", "--prefix", "none"], cwd=ROOT)
        names = {line.split()[0] for line in tree.splitlines() if line.strip()}
        if names & set(IMPURE):
            raise Failed(f"the machines of {crate} depend on {', '.join(sorted(names & set(IMPURE)))}")


def ran(output):
    """Tests passed for each test file or library that cargo ran, by path."""
    counts = {}
    for path, count in re.findall(r"Running (?:unittests )?(\S+) .*?test result: ok\. (\d+) passed", output, re.DOTALL):
        counts[path] = counts.get(path, 0) + int(count)
    return counts


def must_have_run(output, files):
    """Fails if one of these test files was compiled to nothing, as a missing feature does it."""
    idle = [path.name for path in files if ran(output).get(f"tests/{path.name}", 0) == 0]
    if idle:
        raise Failed(f"no test of {', '.join(idle)} was run")


def test_files(pattern):
    return sorted((ROOT / "core" / "tests").glob(pattern))


def test_arguments(files):
    return [word for path in files for word in ("--test", path.stem)]


def tests(_full):
    output = captured(["cargo", "test", "--workspace", "--features", "watershed-core/sim"])
    if passed_count(output) == 0:
        raise Failed("no test was run")
    must_have_run(output, test_files("sim_*.rs"))


def glommio(_full):
    """The suite of the executor on its second host."""
    files = test_files("io_glommio*.rs")
    if not files:
        raise Skipped("no tests inside glommio in this tree")
    every_crate = ",".join(f"watershed-{crate}/glommio" for crate in ("core", "broker", "bench"))
    sh(["cargo", "clippy", "--quiet", "--workspace", "--features", every_crate, "--all-targets", "--", "-D", "warnings"])
    output = captured(["cargo", "test", "-p", "watershed-core", "--features", "glommio", *test_arguments(files)])
    must_have_run(output, files)


def hop(full):
    """Both hosts while they keep losing the CPU."""
    sh([str(ROOT / "ci" / "hop-stress"), "1000000" if full else "100000"])


def simulation(full):
    """More seeds than `cargo test` runs by itself, from a start of its own each time."""
    files = test_files("sim_*.rs")
    if not files:
        raise Skipped("no simulation in this tree")
    first, count = int(time.time()) * 1000, 20000 if full else 2000
    print(f"SIM_SEED={first} SIM_SEEDS={count}", flush=True)
    output = captured(
        ["cargo", "test", "-p", "watershed-core", "--features", "sim", "--profile", "ci", *test_arguments(files)],
        SIM_SEED=str(first), SIM_SEEDS=str(count),
    )
    must_have_run(output, files)


def loom(_full):
    """Every test named loom_*, explored over all interleavings with at most two preemptions."""
    expected = sum(len(re.findall(r"fn loom_", path.read_text())) for path in sources_with(r"fn loom_"))
    if expected == 0:
        raise Skipped("no loom test in this tree")
    output = captured(
        # Optimised dependencies would take longer to compile than they save.
        ["cargo", "test", "--config", 'profile.dev.package."*".opt-level=0', "-p", "watershed-core", "--lib", "loom_"],
        RUSTFLAGS="--cfg loom", CARGO_TARGET_DIR=str(ROOT / "target" / "loom"), LOOM_MAX_PREEMPTIONS="2",
    )
    if passed_count(output) != expected:
        raise Failed(f"{passed_count(output)} loom tests were run, of {expected}")


def miri(_full):
    """The tests of queue, wake protocol and tasks; the modules that need a kernel cannot run here."""
    tools.miri()
    output = captured(
        ["cargo", "+nightly", "miri", "test", "-p", "watershed-core", "--lib", "--", *(f"io::{module}::" for module in UNDER_MIRI)],
        CARGO_TARGET_DIR=str(ROOT / "target" / "miri"), MIRIFLAGS="-Zmiri-disable-isolation",
    )
    idle = [module for module in UNDER_MIRI if not re.search(rf"test io::{module}::\S+ \.\.\. ok", output)]
    if idle:
        raise Failed(f"no test of {', '.join(idle)} was run under Miri")


def tidy(_full):
    tidy_rules.prove_rules()
    problems = tidy_rules.check(ROOT)
    if problems:
        raise Failed("\n".join(problems))


def broker_program(*features):
    """Builds the broker that the client suites run against."""
    sh(["cargo", "build", "--quiet", "--profile", "ci", "-p", "watershed-broker", *(f"--features={name}" for name in features)])
    return ROOT / "target" / "ci" / "watershed-broker"


def client_suites(cores, *more, features=()):
    program = broker_program(*features)
    sh([str(tools.python()), str(RUN_CLIENTS), "--broker", str(program), "--cores", cores, *more])


def foreign_suites(cores, *more):
    """Test suites that other projects wrote."""
    sh([str(tools.python()), str(RUN_FOREIGN), "--broker", str(broker_program()), "--cores", cores, *more])


def clients(_full):
    client_suites("1")
    foreign_suites("1", "--quick")


def clients_sharded(_full):
    client_suites("unbound:3")
    foreign_suites("unbound:3", "--quick")


def spark_jobs(*more):
    sh(["cargo", "build", "--quiet", "--profile", "ci", "-p", "watershed-shuffle"])
    program = ROOT / "target" / "ci" / "watershed-shuffle"
    sh([sys.executable, str(ROOT / "ci/clients/spark/suite.py"), "--shuffle", str(program), *more])


def spark(_full):
    spark_jobs()


def spark_full(_full):
    spark_jobs("--full")


def suites(_full):
    for cores in ("1", "unbound:3"):
        foreign_suites(cores)


def clients_glommio(_full):
    """One client in C and one over librdkafka's Python binding: the tasks are those of the other parts, only their host differs."""
    client_suites("unbound:3", "--set", "runtime=glommio", "kcat", "confluent-kafka", features=["glommio"])


def kill_script(script, *arguments):
    program = broker_program()
    sh([str(tools.python()), str(ROOT / "ci/clients/kills" / script), "--broker", str(program), *arguments])


def restarts(_full):
    kill_script("restarts.py")


def on_own_disk(script, *arguments, install=lambda: None):
    """Runs a script that mounts a file system of its own, which not every machine lets it."""
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        raise Skipped("a file system of its own takes root and mkfs.ext4")
    install()
    program = broker_program()
    command = [str(tools.python()), str(ROOT / "ci/clients" / script), "--broker", str(program), *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL)
    if done.returncode == CANNOT_MOUNT:
        raise Skipped("this machine lets no such disk be mounted")
    if done.returncode != 0:
        raise Failed(f"{script} ended with {done.returncode}")


def disk_full(_full):
    on_own_disk("kills/disk_full.py")


def power_loss(full):
    for kind in ("ext4", "xfs") if full else ("ext4",):
        on_own_disk("power/power_loss.py", "--fs", kind, "--states", "100" if full else "8", "--seconds", "10" if full else "4", install=tools.nbdkit)


def disk_errors(full):
    on_own_disk("power/disk_errors.py", "--sites", "40" if full else "2", install=tools.nbdkit)


def flips(full):
    kill_script("flips.py", "--flips", "2000" if full else "30")


def crowd(full):
    program = broker_program()
    for cores in ("1", "unbound:3") if full else ("1",):
        arguments = ["--broker", str(program), "--cores", cores, "--seconds", "60" if full else "8"]
        sh([str(tools.python()), str(ROOT / "ci/clients/crowd/crowd.py"), *arguments])


def compared(_full):
    """Administrative answers beside those of Apache Kafka, which is started for it."""
    program = broker_program()
    sh([str(tools.python()), str(ROOT / "ci/clients/kafka/compare.py"), "--broker", str(program)])


def kills(full):
    kill_script("kills.py", "--cycles", "200" if full else "20")


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    check: typing.Callable
    about: str
    quick: bool = True


PARTS = (
    Part("fmt", fmt, "the code is formatted"),
    Part("clippy", clippy, "no warning in any target"),
    Part("purity", purity, "the machines build without executor, ring and tokio"),
    Part("tidy", tidy, "the style that a tool can see: sizes, names, unsafe, imports, named paths"),
    Part("tests", tests, "every test of the workspace, 200 seeds of the simulation among them"),
    Part("glommio", glommio, "the executor's suite inside glommio"),
    Part("hop", hop, "messages between shards on 0.4 of a CPU, on both hosts: no wake is lost"),
    Part("loom", loom, "the wake protocol and the queue between shards under every interleaving"),
    Part("miri", miri, "queue, wake protocol and tasks under Miri"),
    Part("clients", clients, "real clients against one shard, and the quick part of suites that other projects wrote"),
    Part("clients-sharded", clients_sharded, "the same against three unbound shards"),
    Part("clients-glommio", clients_glommio, "kcat and confluent-kafka against three unbound shards inside glommio"),
    Part("restarts", restarts, "clean restarts and other numbers of shards keep everything"),
    Part("disk-full", disk_full, "a neighbour fills the disk: writing is refused, the rest goes on, nothing is lost"),
    Part("power-loss", power_loss, "power lost at any block written: what was acknowledged is there, whole"),
    Part("disk-errors", disk_errors, "a write or a flush that fails, a disk that waits: nothing acknowledged is lost"),
    Part("flips", flips, "damage in every kind of file: refused by name, mended, or told at its offset"),
    Part("crowd", crowd, "2,000 idle, slow and stopped clients under a memory limit"),
    Part("kills", kills, "kill -9 under load: every acknowledged record once, at its offset"),
    Part("spark", spark, "Spark's jobs through the shuffle service give what its own shuffle gives; the service killed amid them"),
    Part("spark-full", spark_full, "every job at every transport, master, memory and number of shards, and every kill", quick=False),
    Part("compared", compared, "every answer of Java's AdminClient beside Apache Kafka's, field by field", quick=False),
    Part("suites", suites, "all that must pass of the suites that other projects wrote, on one shard and on three", quick=False),
    Part("simulation", simulation, "more seeds than `cargo test` runs", quick=False),
)


def listing():
    return "\n".join(f"{part.name:16} {'' if part.quick else '(--full) '}{part.about}" for part in PARTS)


def chosen(names, full):
    unknown = set(names) - {part.name for part in PARTS}
    if unknown:
        raise SystemExit(f"no part named {', '.join(sorted(unknown))}; the parts are:\n{listing()}")
    return [part for part in PARTS if (part.name in names if names else part.quick or full)]


def run_part(part, full):
    print(f"== {part.name}", flush=True)
    started = time.monotonic()
    try:
        part.check(full)
        outcome, note = "passed", ""
    except Skipped as reason:
        outcome, note = "skipped", f": {reason}"
    except (Failed, tools.Unavailable) as reason:
        outcome, note = "failed", f": {reason}"
    print(f"== {part.name} {outcome} in {time.monotonic() - started:.1f} s{note}", flush=True)
    return outcome


def run(names, full):
    """Runs the chosen parts, all of them even after a failure, and returns the exit code."""
    started = time.monotonic()
    outcomes = {part.name: run_part(part, full) for part in chosen(names, full)}
    counted = {word: sum(outcome == word for outcome in outcomes.values()) for word in ("passed", "failed", "skipped")}
    for name, outcome in outcomes.items():
        if outcome == "failed":
            print(f"failed: {name}")
    print(f"all in {time.monotonic() - started:.0f} s")
    print(f"{counted['passed']} passed, {counted['failed']} failed, {counted['skipped']} skipped", flush=True)
    return 1 if counted["failed"] or not counted["passed"] else 0
