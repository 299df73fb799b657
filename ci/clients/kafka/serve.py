"""Runs Apache Kafka on loopback until interrupted, so that the suites can be tried against the broker that they describe.

    python3 ci/clients/kafka/serve.py          prints `ready host:port pid`
"""

import pathlib
import signal
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[index]) for index in (1, 2)]

import tools  # noqa: E402
from harness.broker import Kafka  # noqa: E402


def main():
    kafka = Kafka(tools.kafka_jars())
    kafka.start()
    print(f"ready {kafka.target} {kafka.pid}", flush=True)
    try:
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        kafka.stop()


if __name__ == "__main__":
    main()
