"""Groups that commit rising offsets over every restart of the broker: what was answered may never be forgotten, nor anything be told that was not committed."""

import threading
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

PAUSE_SECONDS = 0.005
ANSWER_SECONDS_MAX = 60.0


class Committer(threading.Thread):
    """Commits 1, 2, 3, ... for one partition, each after the one before was answered or failed."""

    def __init__(self, target, topic, partition, group):
        super().__init__(daemon=True)
        self.place = (topic, partition)
        self.tried = self.answered = self.commits = 0
        self.stopping = self.resting = False
        self.rested = threading.Event()
        self.failure = None
        self.client = Consumer({
            "bootstrap.servers": target, "group.id": group, "enable.auto.commit": False, "log_level": 0, "socket.timeout.ms": 5000,
            "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20,
        })

    def run(self):
        while not self.stopping:
            if self.resting:
                self.rested.set()
                time.sleep(PAUSE_SECONDS)
                continue
            self.tried += 1
            try:
                self.client.commit(offsets=[TopicPartition(*self.place, self.tried, metadata=f"m{self.tried}")], asynchronous=False)
                self.answer(self.tried)
            except KafkaException:
                # Killed on the way: whether it was kept is not known.
                pass
            time.sleep(PAUSE_SECONDS)

    def answer(self, number):
        """Takes the answer to a commit."""
        self.answered, self.commits = number, self.commits + 1

    def check(self):
        """While it rests: what the broker holds is the last answer, or a later try that nobody heard of."""
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while True:
            try:
                (found,) = self.client.committed([TopicPartition(*self.place)], timeout=5)
                break
            except KafkaException:
                assert time.monotonic() < deadline, "no coordinator answered"
        if self.tried == 0 or (self.answered == 0 and found.offset < 0):
            return
        assert self.answered <= found.offset <= self.tried, f"{found.offset} is held, {self.answered} was answered, {self.tried} tried"
        assert found.metadata == f"m{found.offset}", f"{found.metadata} stands beside {found.offset}"

    def rest(self, resting):
        self.rested.clear()
        self.resting = resting
        if resting:
            assert self.rested.wait(ANSWER_SECONDS_MAX), "a commit was never answered"
