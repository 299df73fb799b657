"""Stops one thread of a process, by its name, until standard input ends: `stop_thread.py PID NAME`."""

import ctypes
import os
import pathlib
import sys

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
WAIT_ALL_THREADS = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, thread):
    if libc.ptrace(request, thread, None, None) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))


def main():
    process, name = sys.argv[1:]
    tasks = pathlib.Path("/proc", process, "task").iterdir()
    thread = next(int(task.name) for task in tasks if (task / "comm").read_text().strip() == name)
    ptrace(SEIZE, thread)
    ptrace(INTERRUPT, thread)
    os.waitpid(thread, WAIT_ALL_THREADS)
    print("stopped", flush=True)
    sys.stdin.read()
    ptrace(DETACH, thread)


main()
