"""Runs a command under a seccomp filter: a container's profile, or everything but a few calls.

    confined.py profile FILE COMMAND...      as a container runtime loads the profile
    confined.py deny NAME,NAME COMMAND...    these calls fail with EPERM
"""

import ctypes
import ctypes.util
import json
import os
import sys

ALLOW = 0x7FFF0000
OPERATORS = {"SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5, "SCMP_CMP_GT": 6, "SCMP_CMP_MASKED_EQ": 7}

library = ctypes.CDLL(ctypes.util.find_library("seccomp") or "libseccomp.so.2", use_errno=True)
library.seccomp_init.restype = ctypes.c_void_p
library.seccomp_init.argtypes = [ctypes.c_uint32]
library.seccomp_load.argtypes = [ctypes.c_void_p]
library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]


class Comparison(ctypes.Structure):
    _fields_ = [("index", ctypes.c_uint), ("operator", ctypes.c_int), ("value", ctypes.c_uint64), ("value_two", ctypes.c_uint64)]


library.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Comparison)]


def action(name, errno):
    return {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_ERRNO": 0x00050000 | errno}[name]


def add(context, names, act, arguments=()):
    comparisons = [Comparison(a["index"], OPERATORS[a["op"]], a["value"], a.get("valueTwo", 0)) for a in arguments]
    array = (Comparison * len(comparisons))(*comparisons)
    for name in names:
        number = library.seccomp_syscall_resolve_name(name.encode())
        # Calls that this architecture does not have are left out, as runtimes do it.
        if number >= 0:
            failed = library.seccomp_rule_add_array(context, act, number, len(comparisons), array)
            assert failed == 0, (name, failed)
        elif number == -1:
            sys.exit(f"no system call is named {name}")


def from_profile(path):
    with open(path) as file:
        profile = json.load(file)
    default_errno = profile.get("defaultErrnoRet", 1)
    context = library.seccomp_init(action(profile["defaultAction"], default_errno))
    for rule in profile["syscalls"]:
        add(context, rule["names"], action(rule["action"], rule.get("errnoRet", 1)), rule.get("args", ()))
    return context


def denying(names):
    context = library.seccomp_init(ALLOW)
    add(context, names, action("SCMP_ACT_ERRNO", 1))
    return context


def main():
    kind, what, *command = sys.argv[1:]
    context = from_profile(what) if kind == "profile" else denying(what.split(","))
    assert library.seccomp_load(context) == 0, "the filter cannot be loaded"
    os.execvp(command[0], command)


main()
