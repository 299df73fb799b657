"""Starts, stops and watches the brokers under test: Watershed's own and, as the measure, Apache Kafka."""

import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCRATCH = ROOT / "target" / "clients"
PORTS = range(21000, 21999)
READY_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 30.0


def free_ports(count):
    """Ports of ours that nobody listens on, all different."""
    held = []
    for offset in range(len(PORTS)):
        if len(held) == count:
            break
        probe = socket.socket()
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORTS[(os.getpid() * 37 + offset) % len(PORTS)]))
            held.append(probe)
        except OSError:
            probe.close()
    ports = [probe.getsockname()[1] for probe in held]
    for probe in held:
        probe.close()
    return ports


def resident_bytes(pid):
    """Resident memory of a process."""
    pages = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class CoresInUse(Exception):
    """Another process holds a CPU that the broker was told to pin a shard to."""


class Broker:
    """One Watershed broker process on a data directory of its own; addresses stay the same over restarts."""

    def __init__(self, program, name, cores="1", settings=()):
        self.program, self.cores, self.settings = program, cores, list(settings)
        self.folder = SCRATCH / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.data = self.folder / "data"
        self.port, self.admin_port = free_ports(2)
        self.process = None

    @property
    def target(self):
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    def start(self, cores=None):
        """Starts the broker and waits for its ready line; returns the seconds that took.

        Where another broker holds the cores, as many shards run unbound: a busy machine must not fail the checks.
        """
        self.cores = cores or self.cores
        try:
            return self.launch(self.cores)
        except CoresInUse as reason:
            print(f"  note {reason}; runs with --cores unbound:{self.cores}", flush=True)
            return self.launch(f"unbound:{self.cores}")

    def arguments(self, cores):
        """The command line."""
        sets = [word for setting in self.settings for word in ("--set", setting)]
        return [
            str(self.program), "--data-dir", str(self.data), "--listen", self.target,
            "--admin", f"127.0.0.1:{self.admin_port}", "--cores", cores, *sets,
        ]

    def launch(self, cores):
        started = time.monotonic()
        self.log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(self.arguments(cores), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log)
        self.await_ready(started + READY_SECONDS_MAX)
        return time.monotonic() - started

    def await_ready(self, deadline):
        seen = b""
        descriptor = self.process.stdout.fileno()
        while not re.search(rb"^ready ", seen, re.MULTILINE):
            readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(descriptor, 65536) if readable else b""
            seen += chunk
            self.log.write(chunk)
            if not chunk:
                ended = self.process.wait() if time.monotonic() < deadline else None
                told = self.log_end()
                if in_use := re.search(r"(CPU \d+ is used by pid \d+)[^\n]*\n*$", told):
                    raise CoresInUse(in_use.group(1))
                raise RuntimeError(f"the broker printed no ready line (exit code {ended}): {told}")

    def log_end(self):
        self.log.flush()
        return (self.folder / "log").read_text(errors="replace")[-1500:]

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        """Asks for a clean end and insists on one."""
        if not self.alive():
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"the broker did not end within {STOP_SECONDS_MAX} s of SIGTERM: {self.log_end()}") from None
        if code != 0:
            raise RuntimeError(f"the broker ended with {code} after SIGTERM: {self.log_end()}")

    def kill(self):
        """Kill -9, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def metrics(self):
        """The admin port's metrics, summed over their labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        sums = {}
        for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? ([-+.\deE]+)", text, re.MULTILINE):
            sums[name] = sums.get(name, 0.0) + float(value)
        return sums


class Kafka:
    """One Apache Kafka node, broker and controller in one process, from the jars that the tools use."""

    def __init__(self, jars, heap="1g", settings=()):
        self.jars, self.heap, self.settings = jars, heap, list(settings)
        self.folder = SCRATCH / f"kafka-{os.getpid()}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.port, self.controller_port = free_ports(2)
        self.process = None

    @property
    def target(self):
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        """Formats the directory if it is new, starts the node and waits until it answers."""
        properties = self.folder / "server.properties"
        if not properties.exists():
            template = (ROOT / "ci/clients/kafka/server.properties").read_text()
            told = template.format(port=self.port, controller=self.controller_port, folder=self.folder)
            properties.write_text("\n".join([told, *self.settings, ""]))
            self.java("kafka.tools.StorageTool", "format", "--standalone", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", properties).wait()
        self.process = self.java("kafka.Kafka", properties)
        self.await_ready(time.monotonic() + 60)

    def java(self, *arguments):
        log = open(self.folder / "log", "ab")
        options = [f"-Xms{self.heap}", f"-Xmx{self.heap}", "-XX:+UseG1GC", "-cp", f"{self.jars}/*"]
        return subprocess.Popen(["java", *options, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def await_ready(self, deadline):
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Kafka did not start: {(self.folder / 'log').read_text(errors='replace')[-1500:]}") from None
                time.sleep(0.1)

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        if self.alive():
            self.process.terminate()
            self.process.wait(60)

    def kill(self):
        self.process.kill()
        self.process.wait()
