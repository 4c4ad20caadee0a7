#!/usr/bin/env python3
"""The measurements behind process.sh: the same questions to nbsupervisor and to supervisord, in turn.

Each peer is an object with the same few methods; each measurement starts a fresh daemon of it in a fresh directory.
Times are until the fact, not until the answer: a started app says so itself through a FIFO, or the daemon's own list
says RUNNING for all. Beside them stands the floor: the same programs started by a bare loop, which is what this machine's
kernel and dynamic linker take whoever starts them. Ends only processes that it started: the daemons, the floor's, and
apps whose HOME is in its own directory.
"""

import atexit
import contextlib
import http.client
import json
import os
import pathlib
import resource
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import xmlrpc.client

QUICK = "--quick" in sys.argv[1:]
SCALE = 10 if QUICK else 1
ROUNDS = 1 if QUICK else 3
START_APPS = 200 // SCALE
FLEET = 1000 // SCALE
KILLS = {"nbsupervisor": 100 // SCALE, "supervisord": 10, "floor": 100 // SCALE}
FLEETS = [0, 100 // SCALE, FLEET]
CONNECTIONS = 32  # of the client that sends many commands, as the command line does
IDLE_SECONDS = 20 // SCALE
LISTS = 20
# A child that has forked and not executed yet shares its parent's memory and has its parent's signal handlers.
SETTLE = 1.0
NAP = 0.005  # pause between two looks at a fact


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)


class UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def make_connection(self, _host):
        return UnixConnection(self.path)


def wait_for(what, fact, limit=120):
    until = time.monotonic() + limit
    while not (found := fact()):
        if time.monotonic() > until:
            raise SystemExit(f"waited {limit} s in vain for {what}")
        time.sleep(NAP)
    return found


def pss_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024


def children(pid):
    """How many processes a daemon has; asking the kernel costs the daemon nothing."""
    count = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            count += len((task / "children").read_bytes().split())
    return count


def cpu_ms(pid):
    """CPU time of a process, threads that have ended included. /proc counts it in ticks of 10 ms, its clock in ns.

    The number of another process's clock is made as clock_getcpuclockid(3) makes it.
    """
    return time.clock_gettime(~pid << 3 | 2) * 1000


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Peer:
    """A daemon in a directory of its own."""

    name = None

    def __init__(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="nbs-bench."))
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def launch(self, argv, env=None):
        self.log = open(self.work / "daemon.log", "ab")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env)

    def alive(self):
        if self.process.poll() is not None:
            print((self.work / "daemon.log").read_text()[-3000:], file=sys.stderr)
            raise SystemExit(f"{self.name} ended with {self.process.returncode}")
        return True

    def close(self):
        if self.process and self.process.poll() is None:
            with contextlib.suppress(Exception):
                self.stop_all()
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        # An app may outlive its daemon: one that lives in our directory is ours to end.
        mark = f"HOME={self.work}".encode()
        for entry in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if any(item.startswith(mark) for item in (entry / "environ").read_bytes().split(b"\0")):
                    os.kill(int(entry.name), signal.SIGKILL)
        # Not yet: ext4 without a journal is slow to make files while it remembers many that were removed just now.
        atexit.register(shutil.rmtree, self.work, ignore_errors=True)


def request(path, body):
    text = json.dumps(body).encode()
    head = f"POST /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(text) + text


def is_whole(answer):
    head, separator, body = answer.partition(b"\r\n\r\n")
    length = next((line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b"0")
    return bool(separator) and len(body) >= int(length)


class Nbsupervisor(Peer):
    name = "nbsupervisor"

    def start(self, command, count, run, settings=None):
        """A daemon with `count` apps that exist; with `run` they run as well."""
        # What is in /run where the daemon is installed is in memory here as well.
        run_dir = pathlib.Path(tempfile.mkdtemp(prefix="nbs-bench.", dir="/dev/shm"))
        atexit.register(shutil.rmtree, run_dir, ignore_errors=True)
        (self.work / "recipes").mkdir()
        argv = ", ".join(json.dumps(item.replace("{", "{{").replace("}", "}}")) for item in command)
        recipe = f"""name = "bench"
command = [{argv}]
adapter = "process"
listen = "none"
[restart]
policy = "always"
delay = "0s"
burst = 10000
window = "1h"
"""
        (self.work / "recipes" / "bench.toml").write_text(recipe)
        (self.work / "nbsupervisor.toml").write_text("")
        settings = (settings or {}) | {
            "state_dir": self.work / "state",
            "runtime_dir": run_dir / "daemon",
            "apps_run_dir": run_dir / "apps",
            "recipes_dir": self.work / "recipes",
            "gateway.listen": "127.0.0.1:0",
            "admin.listen": "127.0.0.1:0",
            "environment.adapter": "process",
            "environment.concurrent_starts": 1000,
        }
        sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        env = {"PATH": os.environ["PATH"], "HOME": str(self.work)}
        config = ["--config", str(self.work / "nbsupervisor.toml")]
        self.launch([os.environ["NBS_BIN"], "daemon", *config, *sets], env)
        self.socket = run_dir / "daemon" / "admin.sock"
        wait_for("the admin socket", lambda: self.alive() and self.answers(), 30)
        self.names = [f"a{number:04}" for number in range(count)]
        bodies = [{"name": name, "runtime": "bench", "start_mode": "manual"} for name in self.names]
        self.each("/apps", bodies, 201)
        if run:
            self.start_all()

    def answers(self):
        with contextlib.suppress(OSError):
            return self.ask("GET", "/apps")[0] == 200

    def ask(self, method, path, body=None, connection=None):
        connection = connection or UnixConnection(self.socket)
        headers = {"Content-Type": "application/json"}
        connection.request(method, "/api/v1" + path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def each(self, paths, bodies, expected):
        """Posts all bodies over a few connections; `paths` is one path or one for each body.

        Written by hand on bare sockets: Python's own client takes more of the CPU than the daemon that is measured.
        """
        paths = [paths] * len(bodies) if isinstance(paths, str) else paths
        waiting = [request(path, body) for path, body in zip(paths, bodies)][::-1]
        selector = selectors.DefaultSelector()
        for _ in range(min(CONNECTIONS, len(waiting))):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(self.socket))
            sock.sendall(waiting.pop())
            selector.register(sock, selectors.EVENT_READ, bytearray())
        while selector.get_map():
            for key, _ in selector.select(60) or [(None, None)]:
                if key is None:
                    raise SystemExit("no answer to a command within 60 s")
                answer = key.data
                answer += key.fileobj.recv(65536)
                if not is_whole(answer):
                    continue
                if int(answer[9:12]) not in (expected, 200):
                    raise SystemExit(f"a command was answered {bytes(answer[:500])}")
                answer.clear()
                if waiting:
                    key.fileobj.sendall(waiting.pop())
                else:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()

    def apps(self):
        found, cursor = [], None
        while True:
            query = "?limit=1000" + (f"&cursor={cursor}" if cursor else "")
            page = json.loads(self.ask("GET", "/apps" + query)[1])
            found += page["apps"]
            cursor = page.get("next_cursor")
            if not cursor:
                return found

    def all_are(self, status):
        return all(app["status"] == status for app in self.apps())

    def start_all(self):
        self.each([f"/apps/{name}/start" for name in self.names], [{}] * len(self.names), 202)
        wait_for("all processes", lambda: self.alive() and children(self.pid) >= len(self.names))
        wait_for("all apps to run", lambda: self.alive() and self.all_are("running"))

    def stop_all(self):
        self.each([f"/apps/{name}/stop" for name in self.names], [{}] * len(self.names), 202)
        wait_for("no processes", lambda: self.alive() and not children(self.pid))
        wait_for("all apps to be stopped", lambda: self.alive() and self.all_are("stopped"))

    def list(self):
        self.ask("GET", "/apps?limit=1000")

    def cli(self, *arguments):
        """Runs the command line, and tells how long it took in ms."""
        argv = [os.environ["NBS_BIN"], "--socket", str(self.socket), *arguments]
        env, quiet = {"PATH": os.environ["PATH"], "HOME": str(self.work)}, subprocess.DEVNULL
        begun = time.monotonic()
        process = subprocess.Popen(argv, env=env, stdin=quiet, stdout=quiet)
        # Not `wait(timeout)`, which looks only after 0.5, 1.5, 3.5 ... 15.5, 31.5 ms.
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        ended = process.wait()
        took = (time.monotonic() - begun) * 1000
        watchdog.cancel()
        if ended:
            raise SystemExit(f"{' '.join(arguments)} ended with {ended}")
        return took


class Supervisord(Peer):
    name = "supervisord"

    def start(self, command, count, run, settings=None):
        def quote(item):
            return "'" + item.replace("%", "%%").replace("'", "'\\''") + "'"

        self.socket = self.work / "supervisor.sock"
        text = f"""[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={self.work}/supervisord.pid
childlogdir={self.work}
minfds=20000
minprocs=4096
[unix_http_server]
file={self.socket}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
        for number in range(count):
            text += f"""[program:a{number:04}]
command={" ".join(quote(item) for item in command)}
autostart=false
autorestart=true
startsecs=0
stopasgroup=true
stdout_logfile=NONE
stderr_logfile=NONE
environment=HOME="{self.work}"
"""
        (self.work / "supervisord.conf").write_text(text)
        self.count = count
        self.launch([shutil.which("supervisord"), "-c", str(self.work / "supervisord.conf")])
        wait_for("its socket", lambda: self.alive() and self.answers(), 60)
        if run:
            self.start_all()

    def rpc(self):
        return xmlrpc.client.ServerProxy("http://localhost", transport=UnixTransport(self.socket)).supervisor

    def answers(self):
        with contextlib.suppress(OSError):
            return self.rpc().getState()["statename"] == "RUNNING"

    def all_are(self, status):
        return all(info["statename"] == status for info in self.rpc().getAllProcessInfo())

    def start_all(self):
        self.rpc().startAllProcesses(False)
        wait_for("all programs to run", lambda: self.alive() and self.all_are("RUNNING"))

    def stop_all(self):
        self.rpc().stopAllProcesses(False)
        wait_for("all programs to be stopped", lambda: self.alive() and self.all_are("STOPPED"))

    def list(self):
        self.rpc().getAllProcessInfo()


SLEEPER = ["/bin/sleep", "1000000"]
SPEAKER = "echo $$ > {}; exec sleep 1000000"  # tells its pid to a FIFO


def measure_floor_starts(count):
    """As many sleepers by a bare loop of posix_spawn, which returns when the program has taken over."""
    pids = []
    try:
        before, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        for _ in range(count):
            pids.append(os.posix_spawn(SLEEPER[0], SLEEPER, {"PATH": "/bin"}, setpgroup=0))
        took, used = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF)
        own = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        return {f"start_{count}": took, f"start_cpu_{count}": own * 1000 / count}
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


def crashes(line, count, crash):
    """Times of `crash`, which is given the pid that was last told and has another process tell its own; and that one."""
    pid, took = int(line.read(64)), []
    for _ in range(count):
        begun = time.monotonic()
        crash(pid)
        pid = int(line.read(64))
        took.append((time.monotonic() - begun) * 1000)
        # The peers are given a moment to notice that it runs, so that each crash is a first one.
        time.sleep(0.02)
    return {"crash_p50": percentile(took, 0.5), "crash_p99": percentile(took, 0.99)}, pid


def measure_floor_crashes():
    """Kill, wait and spawn in one loop that watches nothing else."""
    with tempfile.TemporaryDirectory(prefix="nbs-bench.") as work:
        fifo = f"{work}/born"
        os.mkfifo(fifo)

        def spawn():
            os.posix_spawn("/bin/sh", ["/bin/sh", "-c", SPEAKER.format(fifo)], {"PATH": os.environ["PATH"]})

        def end(pid):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

        def crash(pid):
            end(pid)
            spawn()

        with os.fdopen(os.open(fifo, os.O_RDWR), "rb", buffering=0) as line:
            spawn()
            figures, last = crashes(line, KILLS["floor"], crash)
        end(last)
    return figures


def measure_starts(kind, count):
    """Starts apps that only sleep, and stops them."""
    peer = kind()
    try:
        peer.start(SLEEPER, count, run=False)
        time.sleep(SETTLE)
        begun, used = time.monotonic(), cpu_ms(peer.pid)
        peer.start_all()
        took, used = time.monotonic() - begun, cpu_ms(peer.pid) - used
        time.sleep(SETTLE)
        begun = time.monotonic()
        peer.stop_all()
        stopped = time.monotonic() - begun
        return {f"start_{count}": took, f"start_cpu_{count}": used / count, f"stop_{count}": stopped}
    finally:
        peer.close()


def measure_commands(kind, count):
    """The same by the command line, which waits for the outcome of each."""
    peer = kind()
    try:
        peer.start(SLEEPER, count, run=False)
        time.sleep(SETTLE)
        started = peer.cli("-q", "app", "start", "--all") / 1000
        time.sleep(SETTLE)
        stopped = peer.cli("-q", "stop-all", "--yes") / 1000
        return {"cli_start": started, "cli_stop": stopped}
    finally:
        peer.close()


def measure_crashes(kind):
    """Kills an app again and again, and waits until its next process has spoken."""
    peer = kind()
    fifo = peer.work / "born"
    os.mkfifo(fifo)
    line = os.fdopen(os.open(fifo, os.O_RDWR), "rb", buffering=0)
    try:
        command = ["/bin/sh", "-c", SPEAKER.format(fifo)]
        peer.start(command, 1, run=True)
        return crashes(line, KILLS[peer.name], lambda pid: os.kill(pid, signal.SIGKILL))[0]
    finally:
        line.close()
        peer.close()


def idle(peer):
    """CPU per second of a daemon that nobody asks anything."""
    # What came before is not idling: the last of it is the sign of life after the starts, and the list of orders that
    # would have been sent again after 5 s.
    time.sleep(8)
    used = cpu_ms(peer.pid)
    time.sleep(IDLE_SECONDS)
    return (cpu_ms(peer.pid) - used) / IDLE_SECONDS


def measure_fleet(kind, count):
    """Memory, list and idle figures with so many apps running."""
    peer = kind()
    try:
        peer.start(SLEEPER, count, run=True)
        time.sleep(SETTLE)
        figures = {f"pss_{count}": pss_mib(peer.pid)}
        if count == FLEET:
            figures["idle"] = idle(peer)
            took = []
            for _ in range(LISTS):
                begun = time.monotonic()
                peer.list()
                took.append((time.monotonic() - begun) * 1000)
            figures["list"] = statistics.median(took)
            if kind is Nbsupervisor:
                figures["list_cli"] = statistics.median(peer.cli("app", "list") for _ in range(LISTS))
        return figures
    finally:
        peer.close()


def measure_quiet(kind, count):
    """Idle CPU with the sampling of usage switched off."""
    peer = kind()
    try:
        peer.start(SLEEPER, count, run=True, settings={"usage.interval": "0s"})
        return {f"idle_off_{count}": idle(peer)}
    finally:
        peer.close()


def measurements(kind):
    """What is measured of a peer, by name."""
    yield "starts", lambda: measure_starts(kind, START_APPS)
    if kind is Nbsupervisor:
        yield f"{FLEET} starts", lambda: measure_starts(kind, FLEET)
        yield f"{FLEET} starts by the command line", lambda: measure_commands(kind, FLEET)
        for count in (1, FLEET):
            yield f"idle with {count} apps", lambda count=count: measure_quiet(kind, count)
    yield "crashes", lambda: measure_crashes(kind)
    for count in FLEETS:
        yield f"{count} apps", lambda count=count: measure_fleet(kind, count)


def floor_measurements():
    """What of it a bare loop can do."""
    for count in (START_APPS, FLEET):
        yield f"{count} starts", lambda count=count: measure_floor_starts(count)
    yield "crashes", measure_floor_crashes


COLUMNS = {
    Nbsupervisor.name: lambda: measurements(Nbsupervisor),
    Supervisord.name: lambda: measurements(Supervisord),
    "floor": floor_measurements,
}

# Label, figure, bar for the full number of apps.
ROWS = [
    (f"start {START_APPS} apps, s", f"start_{START_APPS}", None),
    ("the same, CPU of the daemon, ms per app", f"start_cpu_{START_APPS}", 1),
    (f"stop {START_APPS} apps, s", f"stop_{START_APPS}", None),
    (f"start {FLEET} apps, s", f"start_{FLEET}", 1),
    ("the same, CPU of the daemon, ms per app", f"start_cpu_{FLEET}", 1),
    (f"stop {FLEET} apps, s", f"stop_{FLEET}", 0.5),
    (f"`app start --all`, {FLEET} apps, s", "cli_start", None),
    (f"`stop-all`, {FLEET} apps, s", "cli_stop", None),
    ("crash to new process, p50, ms", "crash_p50", 2),
    ("crash to new process, p99, ms", "crash_p99", 10),
    *[(f"PSS of the daemon, {count} apps, MiB", f"pss_{count}", bar) for count, bar in zip(FLEETS, (8, 9, 12))],
    (f"list {FLEET} apps over the API, ms", "list", 5),
    (f"`app list`, {FLEET} apps, ms", "list_cli", 15),
    (f"idle CPU, {FLEET} apps, usage every 10 s, ms per s", "idle", 2),
    ("idle CPU, 1 app, usage off, ms per s", "idle_off_1", None),
    (f"idle CPU, {FLEET} apps, usage off, ms per s", f"idle_off_{FLEET}", None),
]


def measured_in_rounds():
    """The medians of all rounds, by column; the peers take turns, so that a slow minute is nobody's alone."""
    rounds = {name: {} for name in COLUMNS}
    for number in range(ROUNDS):
        for name, list_of in COLUMNS.items():
            for what, measure in list_of():
                measured = measure()
                print(f"round {number + 1}, {name}, {what}: {measured}", file=sys.stderr)
                for key, value in measured.items():
                    rounds[name].setdefault(key, []).append(value)
    return {name: {key: statistics.median(all_) for key, all_ in mine.items()} for name, mine in rounds.items()}


def main():
    os.umask(0o022)  # a recipe that others may write does not count
    figures = measured_in_rounds()
    ours, peer, floor = figures.values()

    def ratio(key, other):
        return f"{ours[key] / other[key]:.3f}" if other.get(key) and ours.get(key) is not None else "—"

    machine = f"{os.cpu_count()} cores, Linux {os.uname().release}, {time.strftime('%Y-%m-%d')}"
    print(f"\n{machine}; medians of {ROUNDS} rounds; kills in each: {KILLS}\n")
    print("| what | bar | " + " | ".join(figures) + " | to the peer | to the floor |")
    print("| --- | --- |" + " --- |" * (len(figures) + 2))
    for label, key, bar in ROWS:
        cells = [f"{column[key]:.2f}" if column.get(key) is not None else "—" for column in figures.values()]
        print(f"| {label} | {bar or '—'} | {' | '.join(cells)} | {ratio(key, peer)} | {ratio(key, floor)} |")


if __name__ == "__main__":
    main()
