#!/usr/bin/env python3
"""The measurements behind fleet.sh: an entry, workers and a Redis on this host, over loopback.

First one real worker, with an app that only sleeps: each command goes command line, entry, Redis, worker, process and
back. Then an entry alone with environments that fleet_load plays, which speak the product's own records: its processor
time and memory, what Redis has to do, and how long lists, commands and a restart take. Ends only what it started.
"""

import contextlib
import json
import os
import pathlib
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from process import Nbsupervisor, UnixConnection, cpu_ms, percentile, pss_mib, wait_for

QUICK = "--quick" in sys.argv[1:]
SCALE = 10 if QUICK else 1
ROUNDS = 300 // SCALE
ENVIRONMENTS = int(os.environ.get("NBS_ENVIRONMENTS", 200 // SCALE))
APPS = int(os.environ.get("NBS_APPS", 50))
LISTS = 300 // SCALE
WARM = 10  # rounds that are not counted
IDLE_SECONDS = 60 // SCALE
RESTARTS = 5 if not QUICK else 2
RECIPE = """name = "bench"
command = ["/bin/sleep", "1000000"]
adapter = "process"
listen = "none"
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Redis:
    """A server that keeps each write on disk within a second, as Debian's default with `appendonly yes`."""

    def __init__(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="nbs-bench."))
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        argv = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.work)]
        argv += ["--save", "", "--appendonly", "yes", "--logfile", str(self.work / "log")]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        wait_for("the Redis server", self.answers, 30)

    def connect(self):
        line = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line

    def answers(self):
        with contextlib.suppress(OSError):
            return self.ask(self.connect(), "PING").startswith(b"+PONG")

    @staticmethod
    def ask(line, *words):
        """A command whose answer comes in one piece."""
        parts = [f"${len(word)}\r\n{word}\r\n" for word in words]
        line.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
        return line.recv(65536)

    def figures(self):
        text = self.ask(self.connect(), "INFO").decode()
        return dict(row.split(":", 1) for row in text.split("\r\n") if ":" in row)

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.work, ignore_errors=True)


class Host(Nbsupervisor):
    """A daemon with the origin's variables."""

    def __init__(self, redis, mode, more=None):
        super().__init__()
        self.redis, self.mode, self.more = redis, mode, more or {}
        self.key, self.socket = self.work / "fleet.key", self.work / "run" / "admin.sock"
        (self.work / "recipes").mkdir()
        (self.work / "recipes" / "bench.toml").write_text(RECIPE)
        (self.work / "nbsupervisor.toml").write_text("")

    def env(self):
        url = self.redis.url
        found = {"PATH": os.environ["PATH"], "HOME": str(self.work), "APP_MODE": self.mode, "NO_COLOR": "1"}
        found |= {"APP_DISCOVERY_ADAPTER": "remote", "APP_SUPERVISOR_REDIS_URL": url}
        found |= {"APP_COMMAND_ADAPTER": "redis", "APP_COMMAND_REDIS_URL": url}
        return found | self.more

    def on(self):
        settings = {
            "state_dir": self.work / "state",
            "runtime_dir": self.work / "run",
            "apps_run_dir": self.work / "apps-run",
            "recipes_dir": self.work / "recipes",
            "security.fleet_key_file": self.key,
            "gateway.listen": "127.0.0.1:0",
            "admin.listen": "127.0.0.1:0",
        }
        sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        config = ["--config", str(self.work / "nbsupervisor.toml")]
        self.launch([os.environ["NBS_BIN"], "daemon", *config, *sets], self.env())

    def wait_on(self):
        wait_for("the admin socket", lambda: self.alive() and self.answers(), 60)

    def tell(self):
        """The end of its log, for a measurement that failed."""
        print((self.work / "daemon.log").read_text()[-3000:], file=sys.stderr)

    def off(self):
        self.process.terminate()
        self.process.wait(30)

    def stop_all(self):
        """Of apps, `close` ends what is left."""

    def read(self, path):
        status, body = self.ask("GET", path)
        if status != 200:
            raise SystemExit(f"{path} was answered {status} {body[:500]!r}")
        return json.loads(body)

    def timed(self, path, connection):
        begun = time.monotonic()
        status, _ = self.ask("GET", path, connection=connection)
        took = (time.monotonic() - begun) * 1000
        if status != 200:
            raise SystemExit(f"{path} was answered {status}")
        return took


def entry(redis):
    host = Host(redis, "supervisor", {"APP_PROCESS_ADAPTER": "remote"})
    host.on()
    host.wait_on()
    return host


def available(host):
    return [env for env in host.read("/environments")["environments"] if env["status"] == "available"]


def program_ms():
    """How long the program takes to begin and end, with nothing done in between."""
    begun = time.monotonic()
    subprocess.run([os.environ["NBS_BIN"], "--version"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return (time.monotonic() - begun) * 1000


def redis_ms(redis, line):
    begun = time.monotonic()
    redis.ask(line, "XADD", "bench:stream", "MAXLEN", "~", "1000", "*", "m", "x" * 1000)
    return (time.monotonic() - begun) * 1000


def show(name, took, more=""):
    print(f"| {name} | {percentile(took, 0.5):.2f} | {percentile(took, 0.99):.2f} | {more} |", flush=True)


def command_figures():
    """One entry, one worker, one app."""
    redis = Redis()
    hosts = []
    try:
        hosts.append(first := entry(redis))
        export = [os.environ["NBS_BIN"], "key", "export-worker", "env_a", "--key", str(first.key)]
        url = f"http://127.0.0.1:{free_port()}"
        hosts.append(worker := Host(redis, "worker", {"ENVIRONMENT_NAME": "env_a", "ENVIRONMENT_URL": url}))
        worker.key.touch(0o600)
        worker.key.write_bytes(subprocess.run(export, check=True, capture_output=True).stdout)
        worker.on()
        wait_for("the environment", lambda: first.alive() and worker.alive() and available(first), 60)
        first.cli("app", "create", "trivial", "--runtime", "bench", "--environment", "env_a", "--start-mode", "manual")
        took = {kind: [] for kind in ("start", "stop", "program", "redis")}
        line = redis.connect()
        for number in range(ROUNDS + WARM):
            # In turn, so that each is measured under the same load.
            figures = {
                "start": first.cli("-q", "app", "start", "trivial"),
                "stop": first.cli("-q", "app", "stop", "trivial"),
                "program": program_ms(),
                "redis": redis_ms(redis, line),
            }
            for kind, figure in figures.items() if number >= WARM else ():
                took[kind].append(figure)
        print(f"| one worker, {ROUNDS} rounds in turn | p50, ms | p99, ms | |\n| --- | --- | --- | --- |")
        show("`app start`: command line → entry → Redis → worker → running → command line", took["start"])
        show("`app stop`, the same way, with the end of the process", took["stop"])
        show("`nbsupervisor --version`: the program alone", took["program"])
        show("bare Redis, XADD of 1 KiB over loopback", took["redis"])
        print()
    finally:
        for host in reversed(hosts):
            host.close()
        redis.close()


class Load:
    """The simulated environments."""

    def __init__(self, redis, key, count):
        argv = [os.environ["NBS_FLEET_LOAD"], redis.url, str(key), str(count)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            raise SystemExit(f"the load generator ended with {self.process.wait()}")

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


def running(host):
    return sum(app["status"] == "running" for app in host.apps())


def rest(host, redis, load):
    """What a second costs while nobody asks for anything."""
    before, begun = redis.figures(), time.monotonic()
    pids = {"entry": host.pid, "redis": redis.process.pid, "load": load.process.pid}
    used = {name: cpu_ms(pid) for name, pid in pids.items()}
    time.sleep(IDLE_SECONDS)
    length = time.monotonic() - begun
    after = redis.figures()
    print("| at rest | |\n| --- | --- |")
    for name, pid in pids.items():
        print(f"| CPU of {name}, ms per s | {(cpu_ms(pid) - used[name]) / length:.1f} |")
    print(f"| memory of the entry (PSS), MiB | {pss_mib(host.pid):.1f} |")
    print(f"| memory of Redis, MiB | {int(after['used_memory']) / 2**20:.1f} |")
    # The two INFO of this measurement are its own.
    commands = int(after["total_commands_processed"]) - int(before["total_commands_processed"]) - 1
    print(f"| commands of Redis per s | {commands / length:.0f} |\n", flush=True)


def lists(host, count):
    connection = UnixConnection(host.socket)
    print(f"| lists of {count} apps in {ENVIRONMENTS} environments, {LISTS} each | p50, ms | p99, ms | |")
    print("| --- | --- | --- | --- |")
    for name, path in {
        "`GET /apps`, the first page of 100": "/apps?limit=100",
        "`GET /apps?limit=1000`": "/apps?limit=1000",
        "`GET /environments`": "/environments",
    }.items():
        show(name, [host.timed(path, connection) for _ in range(LISTS)])
    walks = []
    for _ in range(max(5, LISTS // 30)):
        begun = time.monotonic()
        host.apps()
        walks.append((time.monotonic() - begun) * 1000)
    show("all pages of 1,000, with reading them in Python", walks)
    show("`nbsupervisor env list`", [host.cli("env", "list") for _ in range(max(5, LISTS // 10))])
    names = [f"a{number:05}" for number in range(0, count, max(1, count // ROUNDS))][:ROUNDS]
    show("`app restart` of one app, its environment simulated", [host.cli("-q", "app", "restart", n) for n in names])
    print(flush=True)


def restarts(host, count):
    ready, whole = [], []
    for number in range(RESTARTS):
        if number % 2:
            host.process.kill()
            host.process.wait()
        else:
            host.off()
        begun = time.monotonic()
        host.on()
        host.wait_on()
        ready.append(time.monotonic() - begun)
        wait_for("every environment", lambda: host.alive() and len(available(host)) == ENVIRONMENTS)
        wait_for("every app", lambda: host.alive() and running(host) == count)
        whole.append(time.monotonic() - begun)
    print(f"| restart of the entry, {RESTARTS} times | median, s | longest, s |\n| --- | --- | --- |")
    for name, took in (("until it serves (lists, commands, visitors)", ready), ("until every app reads running", whole)):
        print(f"| {name} | {percentile(took, 0.5):.2f} | {max(took):.2f} |")
    print(flush=True)


def fleet_figures():
    """An entry and many environments that are played."""
    redis = Redis()
    host = load = None
    try:
        host = entry(redis)
        load = Load(redis, host.key, ENVIRONMENTS)
        wait_for("every environment", lambda: host.alive() and len(available(host)) == ENVIRONMENTS)
        count = ENVIRONMENTS * APPS
        bodies = [
            {"name": f"a{number:05}", "runtime": "bench", "environments": [f"env_{number % ENVIRONMENTS:03}"]}
            | {"start_mode": "with-supervisor"}
            for number in range(count)
        ]
        begun, used = time.monotonic(), cpu_ms(host.pid)
        host.each("/apps", bodies, 201)
        made = time.monotonic() - begun
        wait_for("every app", lambda: host.alive() and running(host) == count, 600)
        took, used = time.monotonic() - begun, cpu_ms(host.pid) - used
        print(f"{count} apps were made in {made:.1f} s and ran after {took:.1f} s, for {used / count:.2f} ms of the")
        print("entry's processor time each (looks at the list included).\n", flush=True)
        time.sleep(15)  # what came before is not resting
        rest(host, redis, load)
        lists(host, count)
        restarts(host, count)
    except BaseException:
        if host:
            host.tell()
        raise
    finally:
        if load:
            load.close()
        if host:
            host.close()
        redis.close()


print(f"{platform.node()}: {os.cpu_count()} cores, Linux {platform.release()}, load {os.getloadavg()}", file=sys.stderr)
command_figures()
fleet_figures()
