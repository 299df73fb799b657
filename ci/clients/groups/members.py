"""Members of consumer groups in threads, and what each of them saw, for the group suite."""

import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException

GROUP_DEFAULTS = {
    "enable.auto.commit": False, "auto.offset.reset": "earliest", "session.timeout.ms": 6000, "heartbeat.interval.ms": 500,
    "max.poll.interval.ms": 30_000, "log_level": 0,
}


def member(target, group, **config):
    """A librdkafka consumer that is a member of a group."""
    return Consumer({"bootstrap.servers": target, "group.id": group, **GROUP_DEFAULTS, **config})


class Member(threading.Thread):
    """Reads, and commits what it has read before it asks for more, until it is told to stop or to die.

    `seen` holds (topic, partition, offset, value) in the order of arrival, `committed` how many of them there were at the last commit, `kept`
    those whose partition was still this member's at the commit behind them: a partition can be taken in the poll that brings its records.
    """

    def __init__(self, target, group, topics, pause=0.0, **config):
        super().__init__(daemon=True)
        self.client = member(target, group, **config)
        self.topics, self.pause = topics, pause
        self.seen, self.committed, self.tried, self.kept, self.assignments, self.errors = [], 0, 0, [], [], []
        self.stopping, self.dying = threading.Event(), threading.Event()
        self.start()

    def run(self):
        assigned = lambda _, places: self.assignments.append(("assigned", [(p.topic, p.partition) for p in places]))
        revoked = lambda _, places: self.assignments.append(("revoked", [(p.topic, p.partition) for p in places]))
        self.client.subscribe(self.topics, on_assign=assigned, on_revoke=revoked)
        while not self.stopping.is_set() and not self.dying.is_set():
            messages = [m for m in self.client.consume(100, 0.2) if self.is_record(m)]
            self.seen += [(m.topic(), m.partition(), m.offset(), m.value()) for m in messages]
            if messages:
                self.commit()
            time.sleep(self.pause)
        if not self.dying.is_set():
            self.client.close()

    def is_record(self, message):
        if message.error() is None:
            return True
        self.errors.append(message.error())
        return False

    def commit(self):
        mine, fresh = self.places(), self.seen[self.tried :]
        self.tried = len(self.seen)
        try:
            self.client.commit(asynchronous=False)
            self.kept += [record for record in fresh if record[:2] in mine]
            self.committed = len(self.seen)
        except KafkaException as error:
            # The group went on without this member: what it read is read again by another.
            if error.args[0].code() not in (KafkaError._NO_OFFSET, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID):
                self.errors.append(error)

    def places(self):
        return {(place.topic, place.partition) for place in self.client.assignment()}

    def stop(self):
        self.stopping.set()
        self.join(20)
        assert not self.is_alive(), "a member did not close within 20 s"
