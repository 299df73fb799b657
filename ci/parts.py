"""The parts of the check, in order, and how they are run and counted.

A part is a function that returns when all is well and raises `Failed` (or `tools.Unavailable`) when it is not; it returns a sentence instead of
nothing when there was nothing to check yet. A part never passes because its tests did not run.
"""

import dataclasses
import os
import re
import subprocess
import sys
import time
import typing

import tidy as tidy_rules
import tools

ROOT = tools.ROOT
IMPURE = ("glommio", "io-uring", "tokio")
RUN_CLIENTS = ROOT / "ci" / "clients" / "run.py"


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
    for crate in ("watershed-core", "watershed-broker"):
        sh(["cargo", "check", "--quiet", "-p", crate, "--lib", "--no-default-features"])
        tree = tools.command(["cargo", "tree", "-p", crate, "-e", "normal", "--no-default-features", "--prefix", "none"], cwd=ROOT)
        names = {line.split()[0] for line in tree.splitlines() if line.strip()}
        if names & set(IMPURE):
            raise Failed(f"the machines of {crate} depend on {', '.join(sorted(names & set(IMPURE)))}")


def tests(_full):
    if passed_count(captured(["cargo", "test", "--quiet", "--workspace"])) == 0:
        raise Failed("no test was run")


def simulation(full):
    """More seeds than `cargo test` runs by itself."""
    if not (ROOT / "core" / "tests" / "simulation.rs").exists():
        raise Skipped("no simulation in this tree")
    seeds = "20000" if full else "1000"
    output = captured(["cargo", "test", "-p", "watershed-core", "--profile", "ci", "--test", "simulation"], WATERSHED_SEEDS=seeds)
    if passed_count(output) == 0:
        raise Failed("no simulation was run")


def loom(_full):
    """Every test of a module that is compiled under loom, explored over all interleavings."""
    if not sources_with(r"loom::model"):
        raise Skipped("no loom test in this tree")
    output = captured(
        ["cargo", "test", "-p", "watershed-core", "--lib", "--no-default-features", "loom"],
        RUSTFLAGS="--cfg loom", CARGO_TARGET_DIR=str(ROOT / "target" / "loom"), LOOM_MAX_PREEMPTIONS="3",
    )
    if passed_count(output) == 0:
        raise Failed("no loom test was run")


def miri(_full):
    """The tests named miri_* under the interpreter that sees undefined behaviour."""
    if not sources_with(r"fn miri_|mod miri"):
        raise Skipped("no test named miri in this tree")
    tools.miri()
    output = captured(
        ["cargo", "+nightly", "miri", "test", "-p", "watershed-core", "--lib", "miri"],
        CARGO_TARGET_DIR=str(ROOT / "target" / "miri"), MIRIFLAGS="-Zmiri-disable-isolation",
    )
    if passed_count(output) == 0:
        raise Failed("no test was run under Miri")


def tidy(_full):
    tidy_rules.prove_rules()
    problems = tidy_rules.check(ROOT)
    if problems:
        raise Failed("\n".join(problems))


def broker_program():
    """Builds the broker that the client suites run against."""
    sh(["cargo", "build", "--quiet", "--profile", "ci", "-p", "watershed-broker"])
    return ROOT / "target" / "ci" / "watershed-broker"


def client_suites(cores, full, suites=()):
    program = broker_program()
    more = ["--full"] if full else []
    sh([str(tools.python()), str(RUN_CLIENTS), "--broker", str(program), "--cores", cores, *more, *suites])


def clients(full):
    client_suites("1", full)


def clients_sharded(full):
    client_suites("unbound:3", full)


def kill_script(script, *arguments):
    program = broker_program()
    sh([str(tools.python()), str(ROOT / "ci/clients/kills" / script), "--broker", str(program), *arguments])


def restarts(_full):
    kill_script("restarts.py")


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
    Part("loom", loom, "wake protocol, inbox and run queue under every interleaving"),
    Part("miri", miri, "the unsafe parts under Miri"),
    Part("clients", clients, "real clients against one shard"),
    Part("clients-sharded", clients_sharded, "the same against three unbound shards"),
    Part("restarts", restarts, "clean restarts and other numbers of shards keep everything"),
    Part("kills", kills, "kill -9 under load: every acknowledged record once, at its offset"),
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
