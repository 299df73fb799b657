"""The tests of franz-go's `pkg/kgo`, from its module.

Tests that pass without any broker are listed as `local` and not run. `KGO_TEST_RECORDS` sets how many records the chains of groups move.
"""

import os
import pathlib
import re
import shutil

import tools
from harness import foreign

MODULE = "github.com/twmb/franz-go@v1.22.2"
SCENARIOS = {"default": ["num.partitions=4", "group.initial.rebalance.delay.ms=0"]}
GROUPS = ("range", "cooperative-sticky", "range/848", "sticky/848", "cooperative-sticky/static", "sticky/848/static")
CHAIN_RECORDS = {"quick": 20_000, "full": 50_000}
ROOT = tools.TOOLS / "franz-go-tests"
PROGRAM = ROOT / "kgo.test"
SECONDS_MAX = 600


def install():
    tools.need("go", "install Go 1.26 or later")
    tools.stamped("franz-go-tests", [pathlib.Path(__file__)], build)


def build():
    """A writable copy of the module, and its test program."""
    if ROOT.exists():
        tools.command(["chmod", "-R", "u+w", str(ROOT)])
        shutil.rmtree(ROOT)
    ROOT.mkdir(parents=True)
    environment = dict(os.environ, GOPATH=str(tools.TOOLS / "go"), GOFLAGS="-modcacherw", GOTOOLCHAIN="local")
    tools.command(["go", "mod", "download", MODULE], cwd=ROOT, env=environment)
    shutil.copytree(tools.TOOLS / "go/pkg/mod" / MODULE, ROOT / "module", ignore=shutil.ignore_patterns("examples", "plugin"))
    tools.command(["chmod", "-R", "u+w", str(ROOT / "module")])
    tools.command(["go", "test", "-c", "-o", str(PROGRAM), "./pkg/kgo"], cwd=ROOT / "module", env=environment)


def known():
    """Every test; those of `TestGroupETL`'s balancers one by one."""
    listing = tools.command([str(PROGRAM), "-test.list", "."])
    names = re.findall(r"^Test\w+$", listing, re.MULTILINE)
    return [each for name in names for each in ([f"{name}/{group}" for group in GROUPS] if name == "TestGroupETL" else [name])]


def run(target, tests, quick):
    log = ROOT / "run.log"
    top = sorted({test.split("/")[0] for test in tests})
    pattern = f"^({'|'.join(top)})$"
    if len(tests) == 1 and "/" in tests[0]:
        pattern = "/".join(f"^{part}$" for part in tests[0].split("/"))
    environment = dict(os.environ, KGO_SEEDS=target, KGO_TEST_RF="1", KGO_TEST_RECORDS=str(CHAIN_RECORDS["quick" if quick else "full"]), KGO_LOG_LEVEL="none")
    foreign.limited([PROGRAM, "-test.v", "-test.run", pattern, f"-test.timeout={SECONDS_MAX}s"], SECONDS_MAX + 10, log, cwd=ROOT / "module/pkg/kgo", env=environment)
    words = {name: word for word, name in re.findall(r"^\s*--- (PASS|FAIL|SKIP): (\S+)", log.read_text(errors="replace"), re.MULTILINE)}
    told = {"PASS": foreign.PASSED, "FAIL": "failed", "SKIP": "skipped"}
    return {test: told.get(words.get(test), "did not end") for test in tests}
