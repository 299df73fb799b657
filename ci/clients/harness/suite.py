"""How a suite runs its cases: one line for each, an exit code, and a topic name that no other case uses."""

import argparse
import os
import pathlib
import time
import traceback


class Suite:
    """Collects cases by decorator and runs them against one bootstrap address."""

    def __init__(self, name):
        self.name = name
        self.cases = []
        self.notes = []

    def case(self, function):
        self.cases.append(function)
        return function

    def main(self):
        """Runs the cases named on the command line, or all; ends the process with 1 if one failed."""
        parser = argparse.ArgumentParser()
        parser.add_argument("target", help="bootstrap address, host:port")
        parser.add_argument("cases", nargs="*")
        parser.add_argument("--pid", type=int, default=0, help="the broker's process, for suites that watch its memory")
        parser.add_argument("--watershed", action="store_true", help="expect exactly what Watershed answers where Kafka may answer otherwise")
        arguments = parser.parse_args()
        self.arguments = arguments
        failed = 0
        for case in self.cases:
            if arguments.cases and case.__name__ not in arguments.cases:
                continue
            failed += not self.run(case, arguments.target)
        os._exit(1 if failed else 0)  # client libraries leave threads behind

    def run(self, case, target):
        started = time.monotonic()
        self.notes = []
        try:
            case(target)
        except Exception as error:
            print(f"  FAIL {self.name}/{case.__name__} after {time.monotonic() - started:.1f} s: {reason(error)}", flush=True)
            return False
        told = ", ".join([f"{time.monotonic() - started:.1f} s", *self.notes])
        print(f"  ok   {self.name}/{case.__name__} {told}", flush=True)
        return True

    def note(self, what):
        """Adds a measured value to the line of the case that runs."""
        self.notes.append(what)


def reason(error):
    """The exception and the line of a suite that it came from."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/ci/clients/" in frame.filename]
    where = " < ".join(f"{pathlib.Path(frame.filename).parent.name}/{pathlib.Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__}: {str(error)[:600]} [{where}]"


def fresh(name):
    """A topic name that no run before this one has used."""
    return f"{name}-{os.getpid()}-{time.time_ns() % 10**12}"


def eventually(check, what, seconds=15.0):
    """Waits until `check` returns something true, and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.05)
