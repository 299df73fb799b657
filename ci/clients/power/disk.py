"""A file system on a disk whose every write and flush is known: nbdkit's plugin behind FUSE, a loop device on that file, and a mount.

It takes root, FUSE, loop devices and Debian's nbdkit. Where one of these is missing, `Unmountable` says which.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import time

from harness.broker import SCRATCH

HERE = pathlib.Path(__file__).resolve().parent
NBDFUSE_SECONDS_MAX = 10.0
MAKE = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}
CHECK = {"ext4": ("e2fsck", "-f", "-y"), "xfs": ("xfs_repair",)}


class Unmountable(Exception):
    """This machine cannot build such a disk."""


class DamagedFileSystem(Exception):
    """The file system itself could not be mounted again."""


def run(*arguments, tolerated=()):
    done = subprocess.run([str(word) for word in arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode and done.returncode not in tolerated:
        raise OSError(f"`{' '.join(map(str, arguments))}` ended with {done.returncode}: {done.stdout.strip()[-500:]}")
    return done.stdout


def formatted(path, kind, image_bytes):
    """A new image with an empty file system of that kind."""
    path.unlink(missing_ok=True)
    with open(path, "wb") as image:
        image.truncate(image_bytes)
    run(*MAKE[kind], path)


@contextlib.contextmanager
def mounted(device_or_image, folder):
    """Mounts the image or device on the folder; a failure to mount is the file system's, not ours."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ("-o", "loop") if device_or_image.is_file() else ()
    try:
        run("mount", *options, device_or_image, folder)
    except OSError as error:
        raise DamagedFileSystem(str(error)) from error
    try:
        yield folder
    finally:
        run("umount", folder)


class LoggedDisk:
    """A disk with an empty file system; `log` grows with each of its writes and flushes."""

    def __init__(self, name, kind, image_bytes):
        self.folder = SCRATCH / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.kind = kind
        self.image, self.base = self.folder / "image", self.folder / "base"
        self.log, self.rule = self.folder / "writes", self.folder / "rule"
        formatted(self.base, kind, image_bytes)
        run("cp", "--sparse=always", self.base, self.image)

    def position(self):
        """Bytes of the log: what was acknowledged by now is in the image after so much of it."""
        return os.stat(self.log).st_size

    @contextlib.contextmanager
    def device(self):
        """The loop device, for as long as it is needed."""
        if os.geteuid() != 0 or not shutil.which("nbdfuse") or not pathlib.Path("/dev/fuse").exists():
            raise Unmountable("it takes root, FUSE and the packages nbdkit, nbdkit-plugin-python and libnbd-bin")
        point = self.folder / "fuse"
        point.mkdir(exist_ok=True)
        plugin = [f"{key}={value}" for key, value in (("image", self.image), ("log", self.log), ("rule", self.rule))]
        command = ["nbdfuse", point / "disk", "--command", "nbdkit", "-s", "--exit-with-parent", "python", HERE / "block_log.py", *plugin]
        with open(self.folder / "nbdfuse.log", "ab") as told:
            server = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=told, stderr=told)
        device = None
        try:
            device = pathlib.Path(self.attached(server, point / "disk"))
            yield device
        finally:
            if device:
                run("losetup", "--detach", device)
            run("fusermount3", "-u", "-z", point, tolerated=(1,))
            server.wait(30)

    def attached(self, server, disk):
        deadline = time.monotonic() + NBDFUSE_SECONDS_MAX
        while not disk.exists():
            if server.poll() is not None or time.monotonic() > deadline:
                raise Unmountable(f"nbdfuse did not start: {(self.folder / 'nbdfuse.log').read_text(errors='replace')[-500:]}")
            time.sleep(0.02)
        try:
            return run("losetup", "--find", "--show", "--direct-io=on", disk).strip()
        except OSError as error:
            raise Unmountable(str(error)) from error

    @contextlib.contextmanager
    def mounted(self):
        with self.device() as device, mounted(device, self.folder / "mounted") as folder:
            yield folder

    def impose(self, rule):
        """Makes the disk follow a rule of the plugin from now on."""
        self.met().unlink(missing_ok=True)
        fresh = self.rule.with_suffix(".new")
        fresh.write_text(rule)
        fresh.rename(self.rule)

    def heal(self):
        self.rule.unlink(missing_ok=True)

    def met(self):
        """Exists once the rule has been used up."""
        return self.rule.with_name(f"{self.rule.name}.met")

    def repair(self):
        """Lets the file system's own tool mend what a failed write of its own left."""
        with self.device() as device:
            run(*CHECK[self.kind], device, tolerated=(1, 2))

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)
