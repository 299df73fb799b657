"""An nbdkit plugin: a disk in one file that writes down every write and flush in the order in which they took effect.

    nbdkit -s python block_log.py image=FILE log=FILE rule=FILE

The log is a row of entries: kind, offset and length (`ENTRY`), and for a write its bytes. nbdkit gives one request at a time, so whatever is
in the log before a flush was in the image before it. The rule's file, once it is there, makes requests fail or wait: `OPERATION SKIP COUNT
ACTION`, where the action is `fail` or milliseconds: `write 17 1 fail` fails the eighteenth write from then on, `flush 0 40 500` holds the next
forty flushes for half a second each. A failed write changes nothing and is not in the log.
"""

import errno
import os
import pathlib
import struct
import time

API_VERSION = 2
ENTRY = struct.Struct("<cQI")
WRITE, FLUSH = b"W", b"F"

settings = {}


class Rule:
    """What the rule's file asks for, read anew whenever the file is another one."""

    def __init__(self, path):
        self.path = path
        self.made_at = None
        self.operation, self.skip, self.left, self.action = "", 0, 0, ""

    def refresh(self):
        try:
            made_at = os.stat(self.path).st_mtime_ns
        except FileNotFoundError:
            self.made_at, self.left = None, 0
            return
        if made_at == self.made_at:
            return
        words = pathlib.Path(self.path).read_text().split()
        if len(words) == 4:  # else it is being written just now
            self.made_at = made_at
            self.operation, self.skip, self.left, self.action = words[0], int(words[1]), int(words[2]), words[3]

    def meet(self, operation):
        """Waits if this request is to wait; true if it is to fail."""
        self.refresh()
        if operation != self.operation or not self.left:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.left -= 1
        if not self.left:
            pathlib.Path(f"{self.path}.met").touch()
        if self.action == "fail":
            return True
        time.sleep(int(self.action) / 1000)
        return False


class Disk:
    """The image, its log and the rule."""

    def __init__(self):
        self.image = os.open(settings["image"], os.O_RDWR)
        self.log = os.open(settings["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.rule = Rule(settings["rule"])


def config(key, value):
    settings[key] = value


def open(readonly):  # noqa: A001: the plugin's interface asks for this name
    return Disk()


def get_size(disk):
    return os.fstat(disk.image).st_size


def can_write(_disk):
    return True


def can_flush(_disk):
    return True


def refused():
    """Makes the request that is being served fail as a disk fails it."""
    import nbdkit  # exists inside nbdkit only; readers of the log import this file too

    nbdkit.set_error(errno.EIO)
    raise OSError(errno.EIO, "the rule says so")


def pread(disk, buffer, offset, _flags):
    if disk.rule.meet("read"):
        refused()
    got = os.preadv(disk.image, [buffer], offset)
    if got != len(buffer):
        refused()


def pwrite(disk, buffer, offset, _flags):
    if disk.rule.meet("write"):
        refused()
    os.writev(disk.log, [ENTRY.pack(WRITE, offset, len(buffer)), buffer])
    os.pwrite(disk.image, buffer, offset)


def flush(disk, _flags):
    if disk.rule.meet("flush"):
        refused()
    os.write(disk.log, ENTRY.pack(FLUSH, 0, 0))
