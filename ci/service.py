#!/usr/bin/env python3
"""Boots systemd in a test root and tries the packaged unit there: `python3 ci/service.py [BINARY]`, as root.

The root is a Debian made by debootstrap under `target/`, kept for the next run; systemd-nspawn boots it. Inside, `trial` below starts the
unit, lets the watchdog find a stopped shard, restarts, stops, and writes down what it saw; out here every line is held against what
must be. Needs debootstrap and systemd-container, and the network once.
"""

import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGING = ROOT / "broker" / "packaging"
TEST_ROOT = ROOT / "target" / "service-root"
MIRROR = "http://deb.debian.org/debian"
BOOT_SECONDS_MAX = 120
CAP_SYS_RESOURCE = 24

TRIAL_UNIT = """[Unit]
Description=Tries the broker's unit
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/bash /trial.sh
StandardOutput=file:/trial.log
StandardError=file:/trial.log
"""

# A watchdog of three seconds instead of thirty, and a machine that is not ours to pin.
TRIAL_DROP_IN = """[Service]
WatchdogSec=3
ExecStart=
ExecStart=/usr/bin/watershed-broker start --config /etc/watershed/broker.toml --data-dir ${STATE_DIRECTORY} --cores unbound:2 --memory 128MiB
"""

TRIAL = """
show() { systemctl show watershed-broker --value --property "$1"; }
wait_for() { for _ in $(seq 300); do [ "$(show "$1")" = "$2" ] && return; sleep 0.1; done; echo "no $2: $(show "$1")"; }
systemctl start watershed-broker && echo "started: $(show ActiveState), $(show StatusText)"
pid=$(show MainPID)
echo "user: $(stat -c %U /proc/$pid), seccomp: $(awk '/^Seccomp:/ {print $2}' /proc/$pid/status), capabilities: $(awk '/^CapEff/ {print $2}' /proc/$pid/status)"
echo "memlock: $(awk '/^Max locked memory/ {print $4}' /proc/$pid/limits)"
echo "data: $(stat -c '%U %a' /var/lib/watershed/broker), $(ls /var/lib/watershed/broker | tr '\\n' ' ')"
sleep 7
echo "fed: $(show ActiveState), restarts $(show NRestarts)"
kill -STOP $pid
wait_for NRestarts 1
wait_for ActiveState active
echo "watchdog: $(journalctl -b -u watershed-broker -o cat --no-pager | grep -o 'Watchdog timeout' | head -1), then $(show ActiveState)"
systemctl stop watershed-broker
echo "stopped: $(show ActiveState), $(show Result), code $(show ExecMainStatus)"
systemctl start watershed-broker
echo "again: $(show ActiveState)"
systemctl stop watershed-broker
echo 'nonsense = 1' >> /etc/watershed/broker.toml
systemctl start watershed-broker
sleep 5
echo "wrong settings: $(show ActiveState), code $(show ExecMainStatus), restarts $(show NRestarts)"
journalctl -b -u watershed-broker -o cat --no-pager > /trial.journal
touch /trial.done
"""

EXPECTED = (
    "started: active, serving on 127.0.0.1:9092, shards: 2",
    "user: watershed, seccomp: 2, capabilities: 0000000000000000",
    "memlock: unlimited",
    "data: watershed 750, images journals lock segments superblock ",
    "fed: active, restarts 0",
    "watchdog: Watchdog timeout, then active",
    "stopped: inactive, success, code 0",
    "again: active",
    "wrong settings: failed, code 2, restarts 0",
)


def run(*command, **options):
    subprocess.run([str(word) for word in command], check=True, **options)


def make_root():
    """A Debian with systemd; kept, since it takes a minute and the network."""
    if (TEST_ROOT / "usr/lib/systemd/systemd").exists():
        return
    shutil.rmtree(TEST_ROOT, ignore_errors=True)
    run("debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv", "bookworm", TEST_ROOT, MIRROR)


def install(binary):
    """As the README says it, and the trial beside it."""
    for path in ("var/lib/watershed", "trial.log", "trial.journal", "trial.done", "etc/watershed"):
        target = TEST_ROOT / path
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    run("install", "-Dm", "755", binary, TEST_ROOT / "usr/bin/watershed-broker")
    run("install", "-Dm", "644", PACKAGING / "broker.toml", TEST_ROOT / "etc/watershed/broker.toml")
    run("install", "-Dm", "644", PACKAGING / "watershed-broker.service", TEST_ROOT / "etc/systemd/system/watershed-broker.service")
    run("install", "-Dm", "644", PACKAGING / "watershed-broker.sysusers", TEST_ROOT / "usr/lib/sysusers.d/watershed-broker.conf")
    run("systemd-sysusers", f"--root={TEST_ROOT}", "watershed-broker.conf")
    drop_in = TEST_ROOT / "etc/systemd/system/watershed-broker.service.d"
    drop_in.mkdir(parents=True, exist_ok=True)
    (drop_in / "trial.conf").write_text(TRIAL_DROP_IN)
    # There is no network to wait for.
    waiting = TEST_ROOT / "etc/systemd/system/systemd-networkd-wait-online.service"
    waiting.unlink(missing_ok=True)
    waiting.symlink_to("/dev/null")
    (TEST_ROOT / "trial.sh").write_text(TRIAL)
    (TEST_ROOT / "etc/systemd/system/trial.service").write_text(TRIAL_UNIT)


def boot():
    """Until the trial is over; the test root needs no orderly end."""
    (TEST_ROOT / "etc/machine-id").unlink(missing_ok=True)
    command = ("systemd-nspawn", "-q", "--register=no", "--keep-unit", "-D", TEST_ROOT, "--private-network", "--boot", "systemd.unit=trial.service")
    machine = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + BOOT_SECONDS_MAX
    while not (TEST_ROOT / "trial.done").exists() and machine.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    machine.kill()
    machine.wait()


def expected():
    """What must be seen; a limit can be raised only where this process may."""
    status = pathlib.Path("/proc/self/status").read_text()
    may_raise = int(status.split("CapEff:")[1].split()[0], 16) >> CAP_SYS_RESOURCE & 1
    return [line for line in EXPECTED if may_raise or not line.startswith("memlock")]


def main():
    binary = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "target" / "release" / "watershed-broker"
    make_root()
    install(binary)
    run("systemd-analyze", "verify", f"--root={TEST_ROOT}", "watershed-broker.service")
    boot()
    seen = (TEST_ROOT / "trial.log").read_text()
    print(seen, end="")
    missing = [line for line in expected() if line not in seen.splitlines()]
    if missing:
        sys.exit("\n".join(["", (TEST_ROOT / "trial.journal").read_text() if (TEST_ROOT / "trial.journal").exists() else "", "not seen:", *missing]))
    print("the unit does what it says")


if __name__ == "__main__":
    main()
