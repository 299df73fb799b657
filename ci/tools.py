"""Installs what the checks need and a plain machine lacks, into target/tools.

Each installer is skipped while its stamp matches the manifest that it was made from, so a second run needs no network. What cannot be had is
an `Unavailable` that names the thing and the remedy; the part that asked is then reported as failed, never as passed.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = ROOT / "target" / "tools"
CLIENTS = ROOT / "ci" / "clients"


class Unavailable(Exception):
    """A tool that is missing and could not be installed."""


def command(arguments, **options):
    """Runs a command quietly; on failure the end of its output goes into the exception."""
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **options)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(map(str, arguments))} failed:\n{done.stdout[-2000:]}")
    return done.stdout


def stamped(name, manifests, install):
    """Runs `install` unless it already ran for exactly these manifests."""
    digest = hashlib.sha256()
    for manifest in manifests:
        digest.update(manifest.read_bytes())
    stamp = TOOLS / f"{name}.stamp"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    TOOLS.mkdir(parents=True, exist_ok=True)
    print(f"  installing {name} into {TOOLS.relative_to(ROOT)}", flush=True)
    install()
    stamp.write_text(digest.hexdigest())


def need(program, remedy):
    if shutil.which(program) is None:
        raise Unavailable(f"`{program}` is not installed: {remedy}")


def python():
    """The interpreter of a virtual environment that holds the Python clients."""
    venv = TOOLS / "venv"
    requirements = CLIENTS / "requirements.txt"

    def install():
        command(["python3", "-m", "venv", "--clear", str(venv)])
        command([str(venv / "bin/pip"), "install", "--quiet", "--requirement", str(requirements)])

    need("python3", "install Python 3.11 or later with its venv module")
    stamped("venv", [requirements], install)
    return venv / "bin/python"


def kafka_jars():
    """The folder with Apache Kafka's tools, clients and server, and all that they depend on."""
    jars = TOOLS / "kafka-jars"
    pom = CLIENTS / "kafka" / "pom.xml"

    def install():
        shutil.rmtree(jars, ignore_errors=True)
        command(["mvn", "-B", "-q", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={jars}"])

    need("javac", "install a JDK of version 17 or later")
    need("mvn", "install Apache Maven")
    stamped("kafka-jars", [pom], install)
    return jars


def java_driver():
    """The class path with our driver compiled against Kafka's tools."""
    jars = kafka_jars()
    classes = TOOLS / "java-driver"
    sources = sorted((CLIENTS / "java").glob("*.java"))

    def install():
        shutil.rmtree(classes, ignore_errors=True)
        command(["javac", "-nowarn", "-cp", f"{jars}/*", "-d", str(classes), *map(str, sources)])

    stamped("java-driver", [*sources, CLIENTS / "kafka" / "pom.xml"], install)
    return f"{classes}:{jars}/*"


def spark():
    """The interpreter of a virtual environment of its own that holds PySpark, whose clients pin nothing of the others."""
    venv = TOOLS / "spark-venv"
    requirements = CLIENTS / "spark" / "requirements.txt"

    def install():
        command(["python3", "-m", "venv", "--clear", str(venv)])
        command([str(venv / "bin/pip"), "install", "--quiet", "wheel", "setuptools"])
        command([str(venv / "bin/pip"), "install", "--quiet", "--no-build-isolation", "--requirement", str(requirements)])

    need("python3", "install Python 3.9 to 3.11 with its venv module")
    need("java", "install a JRE of version 17")
    stamped("spark-venv", [requirements], install)
    return venv / "bin/python"


def uniffle_client():
    """The released shuffle client's jar, which goes onto Spark's class path as it is."""
    folder = TOOLS / "uniffle-client"
    pom = CLIENTS / "spark" / "pom.xml"

    def install():
        shutil.rmtree(folder, ignore_errors=True)
        command(["mvn", "-B", "-q", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"])

    need("mvn", "install Apache Maven")
    stamped("uniffle-client", [pom], install)
    (jar,) = folder.glob("*.jar")
    return jar


def franz_go():
    """The franz-go program, built."""
    source = CLIENTS / "franz-go"
    program = TOOLS / "franz-go"

    def install():
        environment = dict(os.environ, GOPATH=str(TOOLS / "go"), GOFLAGS="-modcacherw", GOTOOLCHAIN="local")
        command(["go", "build", "-o", str(program), "."], cwd=source, env=environment)

    need("go", "install Go 1.26 or later")
    stamped("franz-go", [*sorted(source.glob("*.go")), source / "go.mod", source / "go.sum"], install)
    return program


def kafkajs():
    """The folder of modules that holds kafkajs."""
    source, folder = CLIENTS / "kafkajs", TOOLS / "kafkajs"
    manifests = [source / "package.json", source / "package-lock.json"]

    def install():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for manifest in manifests:
            shutil.copy(manifest, folder)
        command(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder)

    need("node", "install Node.js 18 or later with npm")
    stamped("kafkajs", manifests, install)
    return folder / "node_modules"


def debian(program, *packages):
    """A program of Debian's packages, installed if it is missing."""
    if shutil.which(program) is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise Unavailable(f"`{program}` is not installed: run `apt-get install {' '.join(packages)}` as root")
        print(f"  installing {' '.join(packages)} by apt-get", flush=True)
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        command(["apt-get", "-qq", "update"], env=environment)
        command(["apt-get", "-qq", "install", "-y", "--no-install-recommends", *packages], env=environment)
    return shutil.which(program)


def kcat():
    """kcat, from Debian's packages."""
    return debian("kcat", "kcat")


def nbdkit():
    """What puts a disk of our own making behind a loop device."""
    debian("nbdkit", "nbdkit", "nbdkit-plugin-python")
    debian("nbdfuse", "libnbd-bin")
    debian("fusermount3", "fuse3")
    debian("mkfs.xfs", "xfsprogs")


def miri():
    """The nightly toolchain's Miri."""
    need("rustup", "install rustup; Miri comes with its nightly toolchain")
    if "nightly" not in command(["rustup", "toolchain", "list"]):
        command(["rustup", "toolchain", "install", "nightly", "--profile", "minimal"])
    installed = command(["rustup", "component", "list", "--toolchain", "nightly", "--installed"])
    if "miri" not in installed or "rust-src" not in installed:
        print("  adding Miri to the nightly toolchain", flush=True)
        command(["rustup", "component", "add", "miri", "rust-src", "--toolchain", "nightly"])
