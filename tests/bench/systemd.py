#!/usr/bin/env python3
"""The measurements behind systemd.sh: apps as units, beside a bare loop of the same starts.

One booted machine. The bare loop sends the very bytes that the daemon sends for an app, with another name in them, over
a connection of its own while the daemon is off; so both have systemd do the same. Rounds alternate. Processor time is
what the kernel counted for the control group of each: of the daemon, of systemd itself, and of the bus.
"""

import contextlib
import json
import os
import pathlib
import statistics
import sys
import time

import bare
from machine import Machine, wait_for
from process import SETTLE, Nbsupervisor, UnixConnection, pss_mib

QUICK = "--quick" in sys.argv[1:]
SUITE = next((item for item in sys.argv[1:] if not item.startswith("-")), "bookworm")
STARTS = 30 if QUICK else 300
FLEET = 100 if QUICK else 1000
ROUNDS = 2 if QUICK else 3
IDLE_SECONDS = 5 if QUICK else 20
TOGETHER = 64  # starts of the bare loop that are under way at once; as many as the daemon has
RECIPE = """name = "{name}"
command = ["/bin/sleep", "infinity"]
adapter = "systemd"
listen = "none"
restart = {{ policy = "on-failure", delay = "1s" }}
{more}
"""
# What systemd has to do for a unit: little, so that the daemon's part shows; and what a recipe gives without a word.
KINDS = {"plain": 'sandbox = "none"\nuser = "root"', "sandbox": ""}


class Daemon(Nbsupervisor):
    """The daemon of a machine, by its admin interface."""

    def __init__(self, machine):
        self.machine, self.names = machine, {kind: [] for kind in KINDS}
        self.socket = machine.root / "run/nbsupervisor/admin.sock"
        folder = machine.root / "etc/nbsupervisor/runtimes.d"
        folder.mkdir(parents=True)
        for kind, more in KINDS.items():
            (folder / f"{kind}.toml").write_text(RECIPE.format(name=kind, more=more))

    def on(self, usage="10s"):
        settings = f"[environment]\nconcurrent_starts = {FLEET}\n[usage]\ninterval = \"{usage}\"\n"
        (self.machine.root / "etc/nbsupervisor/nbsupervisor.toml").write_text(settings)
        self.machine.run("systemctl", "start", "nbsupervisor")
        wait_for("the admin socket", self.answers)
        self.group = cgroup(self.machine.host_pid("nbsupervisor.service"))

    def off(self):
        self.machine.run("systemctl", "stop", "nbsupervisor")

    def restart(self, usage):
        self.off()
        self.on(usage)

    @property
    def pid(self):
        return int((self.group / "cgroup.procs").read_text().split()[0])

    def alive(self):
        return bool((self.group / "cgroup.procs").read_text())

    def create(self, kind, count):
        known = self.names[kind]
        names = [f"{kind}-a{number:04}" for number in range(len(known), count)]
        bodies = [{"name": name, "runtime": kind, "start_mode": "manual"} for name in names]
        self.each("/apps", bodies, 201)
        known += names

    def all_to(self, verb, status, names):
        self.each([f"/apps/{name}/{verb}" for name in names], [{}] * len(names), 202)
        self.wait_all(status, names)

    def wait_all(self, status, names):
        wanted = set(names)
        wait_for(f"{len(names)} apps to be {status}", lambda: self.are(status, wanted), nap=0.02)

    def are(self, status, wanted):
        shown = {app["name"]: app["status"] for app in self.apps()}
        if broken := [name for name in wanted if shown[name] == "failed"]:
            raise SystemExit(f"{broken[0]} failed: {self.ask('GET', f'/apps/{broken[0]}')[1].decode()}")
        return all(shown[name] == status for name in wanted)


def cgroup(pid):
    """The control group of a process, as a folder."""
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            unified = pathlib.Path("/sys/fs/cgroup/unified")
            return (unified if unified.exists() else pathlib.Path("/sys/fs/cgroup")) / line[3:].lstrip("/")
    raise SystemExit("no control group of version 2 on this host")


def used_ms(group):
    """Processor time of a group."""
    return int((group / "cpu.stat").read_text().split()[1]) / 1000


class Meter:
    """Time and processor time of some groups, for so many units."""

    def __init__(self, count, **groups):
        self.count, self.groups = count, groups

    def __enter__(self):
        self.before = {name: used_ms(group) for name, group in self.groups.items()}
        self.begun = time.monotonic()
        return self

    def __exit__(self, *_):
        took = time.monotonic() - self.begun
        self.figures = {"rate": self.count / took}
        for name, group in self.groups.items():
            self.figures[name] = (used_ms(group) - self.before[name]) / self.count


class Bench:
    def __init__(self, machine):
        self.machine, self.daemon, self.figures = machine, Daemon(machine), {}
        self.systemd, self.bus = cgroup(machine.init), cgroup(machine.host_pid("dbus.service"))

    def note(self, name, figures):
        print(f"{name}: " + ", ".join(f"{key} {value:.2f}" for key, value in figures.items()), file=sys.stderr)
        for key, value in figures.items():
            self.figures.setdefault((name, key), []).append(value)

    def get(self, name, key="rate"):
        values = self.figures.get((name, key))
        return statistics.median(values) if values else None

    def learn(self, kind):
        """What the daemon sends for an app of this kind, as calls for others, whose environment files are made."""
        first = self.daemon.names[kind][0]
        monitor = bare.Connection(self.machine.bus)
        path = f"/apps/{first}/start"
        signature, call = monitor.watch_call(
            "StartTransientUnit", lambda: self.daemon.each(path, [{}], 202)
        )
        monitor.socket.close()
        self.daemon.wait_all("running", [first])
        folder = self.machine.root / "run/nbsupervisor-apps"
        env, calls = (folder / f"{first}.env").read_bytes(), []
        self.daemon.all_to("stop", "stopped", [first])
        for number in range(STARTS):
            name = f"{kind}-b{number:04}"
            # systemd reads it at each start; who wrote it does not matter to systemd.
            (folder / f"{name}.env").write_bytes(env.replace(first.encode(), name.encode()))
            calls.append(("StartTransientUnit", signature, call.replace(first.encode(), name.encode())))
        return calls

    def bare_round(self, name, together, calls):
        loop = bare.Connection(self.machine.bus)
        loop.hear_jobs()
        with Meter(len(calls), systemd=self.systemd, bus=self.bus) as meter:
            loop.pipeline(calls, together)
        # Not before all is quiet: what follows a start is systemd's work too.
        time.sleep(SETTLE)
        units = [bare.unit_of(body) for _, _, body in calls]
        with Meter(len(calls), systemd=self.systemd) as stops:
            loop.pipeline([bare.stop(unit) for unit in units], together)
        loop.socket.close()
        self.note(name, meter.figures)
        self.note(f"{name}, stop", stops.figures)
        time.sleep(SETTLE)

    def rates(self):
        calls = {kind: self.learn(kind) for kind in KINDS}
        minimal = [bare.minimal(f"bench-minimal-{number:04}.service") for number in range(STARTS)]
        for kind in KINDS:
            # The first time the apps' directories are made.
            self.daemon.all_to("start", "running", self.daemon.names[kind])
            self.daemon.all_to("stop", "stopped", self.daemon.names[kind])
        for _ in range(ROUNDS):
            # Each round of the daemon follows the bare one that it is compared with: the load of the machine changes.
            for kind in KINDS:
                self.daemon.off()
                if kind == "plain":
                    self.bare_round("bare minimal", TOGETHER, minimal)
                    self.bare_round("bare plain, 8 at once", 8, calls[kind])
                self.bare_round(f"bare {kind}", TOGETHER, calls[kind])
                self.daemon.on()
                self.daemon_round(kind)

    def daemon_round(self, kind):
        names = self.daemon.names[kind]
        time.sleep(SETTLE)
        groups = {"own": self.daemon.group, "systemd": self.systemd, "bus": self.bus}
        with Meter(len(names), **groups) as meter:
            self.all_to("start", "running", names)
        self.note(f"daemon {kind}", meter.figures)
        time.sleep(SETTLE)
        with Meter(len(names), **groups) as stops:
            self.all_to("stop", "stopped", names)
        self.note(f"daemon {kind}, stop", stops.figures)
        time.sleep(SETTLE)

    def all_to(self, verb, status, names):
        """Asks the daemon for all, and asks it what became of them only when systemd has done its part."""
        jobs = bare.Connection(self.machine.bus)
        jobs.hear_jobs()
        self.daemon.each([f"/apps/{name}/{verb}" for name in names], [{}] * len(names), 202)
        jobs.wait_jobs(f"nbs-app-{name}.service" for name in names)
        jobs.socket.close()
        self.daemon.wait_all(status, names)

    def resting(self, count):
        """Memory and processor time of a daemon that nobody asks anything."""
        for usage in ("10s", "0s"):
            self.daemon.restart(usage)
            self.daemon.create("plain", count)
            names = self.daemon.names["plain"][:count]
            if names and not self.daemon.are("running", set(names)):
                self.daemon.all_to("start", "running", names)
            time.sleep(3)  # what came before is not resting
            before = used_ms(self.daemon.group)
            time.sleep(IDLE_SECONDS)
            idle = (used_ms(self.daemon.group) - before) / IDLE_SECONDS
            kind = "usage off" if usage == "0s" else f"usage every {usage}"
            self.note(f"{count} units, {kind}", {"pss": pss_mib(self.daemon.pid), "idle": idle})

    def run(self):
        self.daemon.on()
        self.resting(0)
        self.daemon.restart("10s")
        for kind in KINDS:
            self.daemon.create(kind, STARTS)
        self.rates()
        self.resting(STARTS)
        self.resting(FLEET)

    def rows(self):
        yield f"starts/s, bare loop, units of nothing but a command, {TOGETHER} at once", self.get("bare minimal"), ""
        yield "starts/s, bare loop, plain, 8 at once", self.get("bare plain, 8 at once"), ""
        for kind in KINDS:
            daemon, loop = f"daemon {kind}", f"bare {kind}"
            yield f"starts/s, bare loop, {kind}, {TOGETHER} at once", self.get(loop), ""
            yield f"starts/s, daemon, {kind}, {STARTS} asked at once, until all are shown as running", self.get(daemon), ""
            pairs = zip(self.figures[daemon, "rate"], self.figures[loop, "rate"])
            ratios = [ours / theirs for ours, theirs in pairs]
            yield f"ratio to the bare loop of the same units, {kind}, median of rounds", statistics.median(ratios), "≥ 0.9"
            yield f"the same, each round, {kind}", ", ".join(f"{ratio:.2f}" for ratio in ratios), ""
            yield f"CPU of the daemon, {kind}, ms a start", self.get(daemon, "own"), "≤ 2"
            for who in ("systemd", "bus"):
                pair = f"{self.get(daemon, who):.2f} and {self.get(loop, who):.2f}"
                yield f"CPU of {who}, {kind}, ms a start, daemon and bare loop", pair, ""
            yield f"stops/s, {kind}, bare loop", self.get(f"{loop}, stop"), ""
            yield f"stops/s, {kind}, daemon, until all are shown as stopped", self.get(f"{daemon}, stop"), ""
            yield f"CPU of the daemon, {kind}, ms a stop", self.get(f"{daemon}, stop", "own"), ""
        for key, label in (("pss", "PSS of the daemon, MiB"), ("idle", "idle CPU, ms per s")):
            for count in (0, STARTS, FLEET):
                for kind in ("usage every 10s", "usage off"):
                    yield f"{label}, {count} units, {kind}", self.get(f"{count} units, {kind}", key), ""


def main():
    os.umask(0o022)  # a recipe that others may write does not count
    begun = time.monotonic()
    machine = Machine(SUITE)
    with contextlib.closing(machine):
        machine.install(os.environ["NBS_BIN"])
        machine.run("systemctl", "reload", "dbus")
        bench = Bench(machine)
        bench.run()
        version = machine.run("systemctl", "--version").splitlines()[0]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{SUITE}, {version}; {os.cpu_count()} cores, Linux {os.uname().release}, {time.strftime('%Y-%m-%d')};")
    print(f"{ROUNDS} rounds in turn, medians; load {load}; {time.monotonic() - begun:.0f} s\n")
    print("| what | figure | bar |\n| --- | --- | --- |")
    for label, value, bar in bench.rows():
        print(f"| {label} | {value if isinstance(value, str) else f'{value:.2f}'} | {bar} |")


if __name__ == "__main__":
    main()
