"""A crowd under a memory limit: idle connections, readers that take a kilobyte a second, readers that were stopped, and writers that must not notice.

    crowd.py --broker PROGRAM [--idle 2000] [--slow 50] [--stopped 10] [--seconds 10] [--memory-mib 512] [--cores 1]

The broker runs in a cgroup whose limit is its own memory setting and a tenth more. It must not be killed, honest writers and readers are
answered, what was acknowledged is whole, and every file of a connection that ended is closed. Without a cgroup its resident memory is compared instead.
"""

import argparse
import contextlib
import os
import pathlib
import resource
import selectors
import socket
import struct
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "kills"), str(HERE.parent), str(HERE.parent.parent)]

from harness import rdkafka, wire  # noqa: E402
from harness.broker import SCRATCH, Broker, resident_bytes  # noqa: E402
from harness.suite import eventually  # noqa: E402
from harness.wire import Connection, batch, fetch, produce, produced  # noqa: E402
from ledger import PLAIN_DUPLICATES, Ledger  # noqa: E402
from reading import Reading  # noqa: E402
from writer import Writer  # noqa: E402

WRITERS = 4
TRICKLE_BYTES = 1024
FETCH_BYTES = 50 << 20
FETCHES_AHEAD = 20
BACKLOG_RECORDS, RECORD_BYTES = 200, 500_000
HONEST_SECONDS_MAX = 10.0
FILES_SLACK = 20


class MemoryLimit:
    """A cgroup with a memory limit, version 1 or 2; `group` is None where none can be made."""

    FILES = {"cgroup": ("memory.limit_in_bytes", "memory.max_usage_in_bytes"), "cgroup2": ("memory.max", "memory.peak")}

    def __init__(self, limit_bytes):
        self.group = None
        for line in pathlib.Path("/proc/mounts").read_text().splitlines():
            _, mount, kind, options = line.split()[:4]
            if kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(",")):
                with contextlib.suppress(OSError):
                    self.make(pathlib.Path(mount), *self.FILES[kind], limit_bytes)
                    return

    def make(self, mount, limit_file, peak_file, limit_bytes):
        group = mount / f"watershed-crowd-{os.getpid()}"
        group.mkdir()
        try:
            (group / limit_file).write_text(str(limit_bytes))
        except OSError:
            group.rmdir()
            raise
        self.group, self.peak_file = group, group / peak_file

    def wrapped(self, program):
        """A program that moves itself into the group and then becomes `program`."""
        if not self.group:
            return program
        SCRATCH.mkdir(parents=True, exist_ok=True)
        script = SCRATCH / f"crowd-{os.getpid()}.sh"
        script.write_text(f'#!/bin/sh\necho $$ >"{self.group}/cgroup.procs" && exec "{program}" "$@"\n')
        script.chmod(0o755)
        return script

    def peak_bytes(self, pid):
        if self.group:
            with contextlib.suppress(OSError):
                return int(self.peak_file.read_text())
        return resident_bytes(pid)

    def remove(self):
        if self.group:
            self.group.rmdir()


class Trickle(threading.Thread):
    """Readers that ask for more than they take: a kilobyte a second each."""

    def __init__(self, target, topic, count):
        super().__init__(daemon=True)
        self.stopping = False
        self.taken = 0
        self.selector = selectors.DefaultSelector()
        self.connections = [asking(target, topic) for _ in range(count)]
        for connection in self.connections:
            self.selector.register(connection.socket, selectors.EVENT_READ)

    def run(self):
        while not self.stopping:
            for key, _ in self.selector.select(1):
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    self.taken += len(key.fileobj.recv(TRICKLE_BYTES))
            time.sleep(1)


def asking(target, topic):
    """A connection with many large fetches under way and a small window to take them."""
    connection = Connection(target)
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.socket.setblocking(False)
    requests = b"".join(fetch(topic, number, bytes_max=FETCH_BYTES, correlation=number) for number in range(FETCHES_AHEAD))
    with contextlib.suppress(BlockingIOError):
        connection.socket.send(requests)
    return connection


class Crowd:
    def __init__(self, arguments, broker, limit):
        self.arguments, self.broker, self.limit = arguments, broker, limit
        self.slowest = 0.0

    def run(self):
        target = self.broker.target
        self.honest_topic, backlog, written = (rdkafka.create(target, name, WRITERS) for name in ("honest", "backlog", "written"))
        with Connection(target) as connection:
            for _ in range(BACKLOG_RECORDS):
                assert produced(connection.ask(produce(backlog, batch([b"x" * RECORD_BYTES]))))[0] == 0
        files = self.open_files()
        writers = [Writer(target, written, partition, True, (1, 20_000), partition) for partition in range(WRITERS)]
        idle = [Connection(target) for _ in range(self.arguments.idle)]
        for connection in idle[::50]:
            assert struct.unpack_from(">h", connection.ask(wire.api_versions()))[0] == 0
        trickle = Trickle(target, backlog, self.arguments.slow)
        stopped = [asking(target, backlog) for _ in range(self.arguments.stopped)]
        for thread in (*writers, trickle):
            thread.start()
        deadline = time.monotonic() + self.arguments.seconds
        while time.monotonic() < deadline:
            self.honest()
            time.sleep(0.5)
        self.finish(writers, trickle)
        for connection in (*idle, *trickle.connections, *stopped):
            connection.socket.close()
        eventually(lambda: self.open_files() <= files + FILES_SLACK, "the closed connections' files", 30)
        ledger = Ledger(writers, (PLAIN_DUPLICATES,))
        Reading(target, written, ledger).check_from_the_start()
        return sum(ledger.acknowledged_counts()), trickle.taken

    def honest(self):
        started = time.monotonic()
        with Connection(self.broker.target) as connection:
            error, _ = produced(connection.ask(produce(self.honest_topic, batch([b"honest"]))))
            assert error == 0, f"an honest produce got error {error}"
        took = time.monotonic() - started
        assert took < HONEST_SECONDS_MAX, f"an honest client waited {took:.1f} s"
        self.slowest = max(self.slowest, took)

    def finish(self, writers, trickle):
        trickle.stopping = True
        for writer in writers:
            writer.stopping = True
        for thread in (*writers, trickle):
            thread.join()
        for writer in writers:
            assert not writer.failure, f"a writer gave up: {writer.failure}"
            assert writer.acknowledged, "a writer got nothing acknowledged"

    def open_files(self):
        return len(os.listdir(f"/proc/{self.broker.pid}/fd"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", type=pathlib.Path, required=True)
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--slow", type=int, default=50)
    parser.add_argument("--stopped", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--memory-mib", type=int, default=512)
    parser.add_argument("--cores", default="1")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit_bytes = (arguments.memory_mib << 20) * 11 // 10
    limit = MemoryLimit(limit_bytes)
    broker = Broker(limit.wrapped(arguments.broker), "crowd", arguments.cores, [f"memory={arguments.memory_mib}MiB", "num.partitions=1"])
    try:
        broker.start()
        crowd = Crowd(arguments, broker, limit)
        acknowledged, taken = crowd.run()
        peak = limit.peak_bytes(broker.pid)
        assert peak <= limit_bytes, f"{peak >> 20} MiB were used, {limit_bytes >> 20} are allowed"
        broker.stop()
    except Exception as error:
        print(f"  FAIL crowd: {type(error).__name__}: {error}\n{broker.log_end() if broker.process else ''}", flush=True)
        return 1
    finally:
        if broker.alive():
            broker.kill()
        limit.remove()
    where = "in a cgroup" if limit.group else "resident, no cgroup can be made here,"
    print(
        f"  ok   crowd: {arguments.idle} idle, {arguments.slow} slow ({taken >> 10} KiB taken) and {arguments.stopped} stopped clients: {acknowledged} acknowledged, "
        f"all there; slowest honest client {crowd.slowest * 1000:.0f} ms; peak {peak >> 20} MiB {where} of {limit_bytes >> 20}", flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
