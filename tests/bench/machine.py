"""A booted Debian with the product on it, for measurements: the same kind of machine as tests/support/machine.rs makes.

A mount namespace with a disk in memory, a network with a loopback, a control group of its own; all of it goes away when
the holder's pipe closes, so also when this program is killed. Deliberately absent: what is measured.
"""

import os
import pathlib
import shutil
import subprocess
import time

TREE = pathlib.Path(__file__).resolve().parents[2]
MOUNT = "/var/cache/nbsupervisor-tests/mount"
LIMIT = 120

HOLD = r"""
mkdir "$3"
ip link set lo up
mkdir -p "$1" /run/systemd/nspawn
mount -t tmpfs -o mode=755 machine "$1"
mount -t tmpfs nspawn /run/systemd/nspawn
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" root "$1/root"
echo held
cat
echo 1 >"$3/cgroup.kill"
while grep -q '^populated 1' "$3/cgroup.events"; do sleep 0.01; done
find "$3" -depth -type d -exec rmdir {} \;
"""


def wait_for(what, fact, limit=LIMIT, nap=0.005):
    until = time.monotonic() + limit
    while not (found := fact()):
        if time.monotonic() > until:
            raise SystemExit(f"waited {limit} s in vain for {what}")
        time.sleep(nap)
    return found


class Machine:
    def __init__(self, suite):
        found = subprocess.run(
            [TREE / "tests/support/rootfs", suite], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, text=True
        )
        self.name = f"nbs-bench-{os.getpid()}"
        unified = pathlib.Path("/sys/fs/cgroup/unified")
        group = (unified if unified.exists() else pathlib.Path("/sys/fs/cgroup")) / self.name
        hold = ["unshare", "--mount", "--net", "--propagation", "private", "--", "sh", "-euc", HOLD, "sh"]
        self.holder = subprocess.Popen(
            [*hold, MOUNT, found.stdout.strip(), str(group)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        if self.holder.stdout.readline() != b"held\n":
            raise SystemExit("no disk and network for a machine: see the messages of unshare, ip and mount")
        boot = 'echo $$ >"$1/cgroup.procs"; shift; exec systemd-nspawn "$@"'
        # As the test machines do: the daemon's own unit and an orderly boot, without machined.
        self.nspawn = subprocess.Popen(
            ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--", "sh", "-euc", boot, "sh", str(group)]
            + ["--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe", f"--machine={self.name}"]
            + ["--directory", f"{MOUNT}/root", f"--network-namespace-path=/proc/{self.holder.pid}/ns/net"],
            env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.init = wait_for("systemd in the machine", self.find_init, nap=0.05)
        wait_for("the machine to have booted", self.is_up, nap=0.05)
        self.root = pathlib.Path(f"/proc/{self.init}/root")
        self.bus = str(self.root / "run/dbus/system_bus_socket")

    def find_init(self):
        if self.nspawn.poll() is not None:
            raise SystemExit(f"systemd-nspawn ended with {self.nspawn.returncode}")
        level = [self.nspawn.pid]
        for _ in range(2):
            level = [child for pid in level for child in self.children(pid)]
            for pid in level:
                lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
                status = dict(line.split(":", 1) for line in lines if ":" in line)
                if status["Name"].strip() == "systemd" and status["NSpid"].split()[-1] == "1":
                    return pid
        return None

    @staticmethod
    def children(pid):
        try:
            return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def is_up(self):
        return self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded")

    def run(self, *argv, check=True):
        """A command inside, as root; what it said."""
        env = ["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"]
        done = subprocess.run(
            ["nsenter", "-t", str(self.init), "-a", "--", *env, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if check else subprocess.DEVNULL,
            check=check,
            text=True,
        )
        return done.stdout

    def put(self, source, target, mode=0o644):
        target = self.root / target.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(mode)

    def install(self, binary):
        """The program and its unit files where the package puts them."""
        self.put(binary, "/usr/bin/nbsupervisor", 0o755)
        for file in filter(pathlib.Path.is_file, (TREE / "units").iterdir()):
            folder = {".sysusers": "sysusers.d", ".tmpfiles": "tmpfiles.d"}.get(file.suffix)
            self.put(file, f"/usr/lib/{folder}/nbsupervisor.conf" if folder else f"/usr/lib/systemd/system/{file.name}")
        self.put(TREE / "packaging/nbsupervisor.dbus.conf", "/usr/share/dbus-1/system.d/nbsupervisor.conf")
        self.run("systemd-sysusers", "/usr/lib/sysusers.d/nbsupervisor.conf")
        self.run("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/nbsupervisor.conf")
        self.run("systemctl", "daemon-reload")

    def host_pid(self, unit):
        """The main process of a unit, as the host numbers it."""
        inside = self.run("systemctl", "show", "--property", "MainPID", "--value", unit).strip()
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if not os.path.samefile(entry / "ns/pid", f"/proc/{self.init}/ns/pid"):
                        continue
                    lines = (entry / "status").read_text().splitlines()
                except OSError:
                    continue
                if any(line.startswith("NSpid:") and line.split()[-1] == inside for line in lines):
                    return int(entry.name)
        raise SystemExit(f"{unit} has no process")

    def close(self):
        self.holder.stdin.close()
        self.holder.wait()
        self.nspawn.wait()
