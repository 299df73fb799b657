"""Images of a disk as the power may have left them.

At a crash every write before the last completed flush is there. Of the writes since then any may be there, whole, in part at the grain of a
sector, or not at all, in any order: which ones is drawn from a seed.
"""

import mmap
import subprocess

from block_log import ENTRY, FLUSH

SECTOR_BYTES = 512


class WriteLog:
    """The writes and flushes of a disk by their place in its log."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.writes, self.flushes = [], []
        at = 0
        while at + ENTRY.size <= len(self.bytes):
            kind, offset, length = ENTRY.unpack_from(self.bytes, at)
            after = at + ENTRY.size + length
            if after > len(self.bytes):
                break
            self.flushes.append(after) if kind == FLUSH else self.writes.append((after, offset, at + ENTRY.size, length))
            at = after
        self.end = at

    def amid(self, unsure_min):
        """Positions after which at least so many writes are not flushed."""
        places, unsure, flushes = [], 0, iter([*self.flushes, self.end + 1])
        flush = next(flushes)
        for after, *_ in self.writes:
            while flush < after:
                flush, unsure = next(flushes), 0
            unsure += 1
            if unsure >= unsure_min:
                places.append(after)
        return places

    def content(self, write):
        _, offset, at, length = write
        return offset, self.bytes[at : at + length]


class CrashStates:
    """Builds one image after another, each for a later position of the log than the one before."""

    def __init__(self, log, base, folder):
        self.log = log
        self.flushed_image, self.image = folder / "flushed", folder / "state"
        copy(base, self.flushed_image)
        self.applied = 0
        self.flushed_at = 0

    def at(self, position, chance):
        """The image of a crash at that position; `chance` decides over what was not flushed. None leaves all of that out."""
        flushed = max((place for place in self.log.flushes if place <= position), default=0)
        with open(self.flushed_image, "r+b") as image:
            self.applied = self.apply_while(image, lambda write: write[0] <= flushed)
        self.flushed_at = flushed
        copy(self.flushed_image, self.image)
        unsure = [write for write in self.log.writes[self.applied :] if write[0] <= position]
        if chance:
            with open(self.image, "r+b") as image:
                chance.shuffle(unsure)
                for write in unsure:
                    put_in_part(image, *self.log.content(write), chance)
        return self.image, len(unsure)

    def apply_while(self, image, holds):
        at = self.applied
        while at < len(self.log.writes) and holds(self.log.writes[at]):
            offset, content = self.log.content(self.log.writes[at])
            image.seek(offset)
            image.write(content)
            at += 1
        return at


def put_in_part(image, offset, content, chance):
    """Writes all of it, nothing, or sectors from its begin or its end, or any of them."""
    sectors = max(len(content) // SECTOR_BYTES, 1)
    kind = chance.choice(("all", "nothing", "begin", "end", "any"))
    cut = chance.randint(0, sectors)
    kept = {
        "all": lambda sector: True, "nothing": lambda sector: False, "begin": lambda sector: sector < cut,
        "end": lambda sector: sector >= cut, "any": lambda sector: chance.random() < 0.5,
    }[kind]
    for sector in range(sectors):
        if kept(sector):
            image.seek(offset + sector * SECTOR_BYTES)
            image.write(content[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES])


def copy(source, target):
    subprocess.run(["cp", "--sparse=always", str(source), str(target)], check=True)
