"""Stands in for `test/service.py`, which kafka-python's sdist leaves out: the broker under test runs already.

Its fixtures ask it only for a handle on a broker that somebody else started (`ExternalService`); whoever asks for one of its own, as the
tests of SASL and TLS do, is told that there is none.
"""

import pytest


class ExternalService:
    """A broker that somebody else starts and stops."""

    def __init__(self, host, port):
        self.host, self.port = host, port

    def open(self):
        """It is open already."""

    def close(self):
        """Whoever opened it closes it."""

    stop = dump_logs = close


class SpawnedService:
    """A broker that a fixture would start for itself, from a distribution that is not here."""

    def __init__(self, *_args, **_environment):
        pytest.skip("wants to start a Kafka of its own")
