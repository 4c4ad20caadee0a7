#!/usr/bin/env python3
"""The measurements behind gateway.sh: the same requests through nginx and through the gateway, in turn.

One app serves files: an nginx that a daemon of ours has started. In front of it stand our gateway and another nginx, one
worker thread each, with kept connections to the app and the same headers added. Rounds alternate, so that whatever else
the machine does meets both; the figures are medians. CPU is what /proc says of the proxy's process alone, over requests
that wrk counted. Everything is on the loopback interface, and only processes that were started here are ended.
"""

import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

QUICK = "--quick" in sys.argv[1:]
ROUNDS = 1 if QUICK else 5
SECONDS = 1 if QUICK else 4
# Each variable of ours is a setting to a daemon.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("NBSUPERVISOR_")}
TICK = os.sysconf("SC_CLK_TCK")
NGINX = "/usr/sbin/nginx"
NAP = 0.02  # pause between two looks at a fact
SIZES = {"1 KiB": (1 << 10, 32), "100 KiB": (100 << 10, 16), "10 MiB": (10 << 20, 4)}
BARS = {"1 KiB": 1.2, "100 KiB": 0.7, "10 MiB": 0.37}

NGINX_HEAD = """
daemon off; master_process off; worker_processes 1; error_log {dir}/error.log warn; pid {dir}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type application/octet-stream;
  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
"""
APP = NGINX_HEAD + "  sendfile on; tcp_nopush on; server {{ listen 127.0.0.1:{port}; root {root}; }}\n}}\n"
PROXY = NGINX_HEAD + """
  upstream app {{ server 127.0.0.1:{app}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location /apps/site/ {{
      proxy_pass http://app/;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Prefix /apps/site;
      proxy_set_header X-Request-Id $request_id;
      proxy_set_header Forwarded "for=$remote_addr;host=\\"$http_host\\";proto=$scheme";
    }}
  }}
}}
"""
RECIPE = """
name = "files"
command = ["{nginx}", "-p", "{dir}", "-c", "{dir}/app.conf"]
listen = "port"
strip_prefix = true
ready = {{ tcp = true, interval = "50ms", timeout = "20s" }}
stop = {{ signal = "SIGTERM", timeout = "5s" }}
"""


def wait_for(what, fact, limit=30):
    until = time.monotonic() + limit
    while not (found := fact()):
        if time.monotonic() > until:
            sys.exit(f"waited {limit} s in vain for: {what}")
        time.sleep(NAP)
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serves(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def cpu(pid):
    """CPU time of a process so far, all its threads, in seconds."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid):
    """The most memory that a process has had, in MiB."""
    return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def wrk(url, connections):
    """One run: requests, and the median latency in microseconds."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "--timeout", "20s", url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(f"requests failed:\n{text}")
    value, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", text).groups()
    return int(re.search(r"(\d+) requests in", text)[1]), float(value) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


class House:
    """The app, the daemon whose gateway leads to it, and the nginx that does so too."""

    def __init__(self, folder):
        self.dir, self.started = pathlib.Path(folder), []
        files = self.dir / "files"
        files.mkdir()
        for name, (size, _) in SIZES.items():
            (files / name.replace(" ", "")).write_bytes(b"x" * size)
        self.app_port, self.proxy_port = free_port(), free_port()
        while self.proxy_port == self.app_port:
            self.proxy_port = free_port()
        self.dir.chmod(0o755)

    def start(self, *command):
        with (self.dir / "log").open("a") as log:
            child = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT
            )
        self.started.append(child)
        return child.pid

    def open(self):
        binary = os.environ["NBS_BIN"]
        (self.dir / "recipes").mkdir()
        (self.dir / "recipes/files.toml").write_text(RECIPE.format(nginx=NGINX, dir=self.dir))
        (self.dir / "app.conf").write_text(APP.format(dir=self.dir, port=self.app_port, root=self.dir / "files"))
        proxy = PROXY.format(dir=self.dir, port=self.proxy_port, app=self.app_port)
        (self.dir / "proxy.conf").write_text(proxy.replace("nginx.pid", "proxy.pid"))
        (self.dir / "nbsupervisor.toml").write_text("")
        settings = {
            "state_dir": self.dir / "state",
            "runtime_dir": self.dir / "run",
            "apps_run_dir": self.dir / "apps",
            "recipes_dir": self.dir / "recipes",
            "environment.port_range": f"{self.app_port}-{self.app_port}",
            "admin.listen": "127.0.0.1:0",
            "environment.adapter": "process",
            "gateway.listen": "127.0.0.1:0",
        }
        flags = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        config = self.dir / "nbsupervisor.toml"
        ours = self.start(binary, "daemon", "--config", config, *flags)
        address = wait_for("the gateway's address", lambda: self.read("run/gateway.addr"))
        self.cli = [binary, "--socket", str(self.dir / "run/admin.sock")]
        wait_for("the daemon", lambda: subprocess.run([*self.cli, "status"], capture_output=True, env=ENVIRONMENT).returncode == 0)
        create = ["app", "create", "site", "--runtime", "files", "--start-mode", "manual"]
        subprocess.run([*self.cli, *create], check=True, capture_output=True, env=ENVIRONMENT)
        subprocess.run([*self.cli, "app", "start", "site"], check=True, capture_output=True, env=ENVIRONMENT)
        peer = self.start(NGINX, "-p", self.dir, "-c", self.dir / "proxy.conf")
        proxies = {"nginx": (f"http://127.0.0.1:{self.proxy_port}", peer), "gateway": (f"http://{address}", ours)}
        for url, _ in proxies.values():
            wait_for(url, lambda url=url: serves(f"{url}/apps/site/1KiB"))
        return proxies

    def read(self, name):
        path = self.dir / name
        return path.exists() and path.read_text().strip()

    def close(self):
        if hasattr(self, "cli"):
            subprocess.run([*self.cli, "stop-all", "--yes"], capture_output=True, env=ENVIRONMENT)
        for child in self.started:
            child.terminate()
        for child in self.started:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def cpu_per_request(proxies, name):
    _, connections = SIZES[name]
    spent = {proxy: [] for proxy in proxies}
    for _ in range(ROUNDS):
        for proxy, (url, pid) in proxies.items():
            before = cpu(pid)
            requests, _ = wrk(f"{url}/apps/site/{name.replace(' ', '')}", connections)
            spent[proxy].append((cpu(pid) - before) / requests * 1e6)
    return {proxy: statistics.median(values) for proxy, values in spent.items()}


def latency(urls):
    seen = {name: [] for name in urls}
    for _ in range(ROUNDS):
        for name, url in urls.items():
            seen[name].append(wrk(url, 1)[1])
    return {name: statistics.median(values) for name, values in seen.items()}


def main():
    with tempfile.TemporaryDirectory() as folder:
        house = House(folder)
        try:
            proxies = house.open()
            print("| what | nginx | gateway | ratio | bar |\n| --- | --- | --- | --- | --- |")
            for name, (_, connections) in SIZES.items():
                spent = cpu_per_request(proxies, name)
                ratio = spent["gateway"] / spent["nginx"]
                what = f"{name}, {connections} kept connections, CPU per request"
                cells = f"{spent['nginx']:.1f} µs | {spent['gateway']:.1f} µs | {ratio:.2f}"
                print(f"| {what} | {cells} | {BARS[name]} |", flush=True)
            urls = {name: f"{url}/apps/site/1KiB" for name, (url, _) in proxies.items()}
            seen = latency(urls | {"direct": f"http://127.0.0.1:{house.app_port}/1KiB"})
            nginx, ours = (seen[name] - seen["direct"] for name in ("nginx", "gateway"))
            what = f"1 KiB, one connection, p50 added to the app's own {seen['direct']:.0f} µs"
            print(f"| {what} | {nginx:.0f} µs | {ours:.0f} µs | {ours / nginx:.2f} | 1.0 |")
            sizes = {name: resident(pid) for name, (_, pid) in proxies.items()}
            ratio = sizes["gateway"] / sizes["nginx"]
            print(f"| most memory | {sizes['nginx']:.0f} MiB | {sizes['gateway']:.0f} MiB | {ratio:.2f} | |")
        except BaseException:
            print((house.dir / "log").read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            house.close()


if __name__ == "__main__":
    main()
