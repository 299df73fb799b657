"""Starts, kills and restarts the shuffle server under test, always on the same ports."""

import pathlib
import random
import socket

from harness.broker import Broker

PORTS = range(22000, 22990)
PORTS_EACH = 8  # two for each of up to four shards


def free_run(count):
    """The first of so many consecutive ports that nobody listens on."""
    for _ in range(200):
        first = random.SystemRandom().choice(PORTS)
        if all(is_free(port) for port in range(first, first + count)):
            return first
    raise RuntimeError(f"no {count} free ports in a row within {PORTS.start} to {PORTS.stop}")


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class ShuffleServer(Broker):
    """One `watershed-shuffle` process: coordinator and server at `target`, data ports behind it."""

    def __init__(self, program, name, cores, memory):
        super().__init__(program, name, cores)
        self.memory = memory
        self.port = free_run(PORTS_EACH)

    def moved_bytes(self):
        """What the process has written to disks and read from them."""
        told = dict(line.split(": ") for line in pathlib.Path(f"/proc/{self.pid}/io").read_text().splitlines())
        return int(told["write_bytes"]), int(told["read_bytes"])

    def arguments(self, cores):
        return [
            str(self.program), "--listen", self.target, "--data-dir", str(self.data), "--admin", f"127.0.0.1:{self.admin_port}",
            "--cores", cores, "--memory", self.memory,
        ]
