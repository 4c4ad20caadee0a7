#!/usr/bin/env python3
"""A small host: one process in which several apps run. Standard library only.

What nbsupervisor asks of a host is under /_host/ and wants a token; see README.md for each request. Everything else is
a visitor's request: the header X-App says which app it is for, or else the path /apps/<app>/.

Variables: PORT, STATE_DIR (what it keeps: the names of its apps and their settings), HOST_PASSWORD (who knows it gets a
token), START_MS (how long an app takes to start), MISBEHAVE=1 (allows /_host/misbehave, for tests).
"""
import http.server
import json
import os
import secrets
import signal
import sys
import threading
import time
import urllib.parse

VERSION = "1.0.0"
START_MS = int(os.environ.get("START_MS", "200"))
STATE_DIR = os.environ.get("STATE_DIR", ".")
PASSWORD = os.environ.get("HOST_PASSWORD", "")
MISBEHAVE = os.environ.get("MISBEHAVE") == "1"


def say(text):
    print(text, flush=True)


class App:
    """An app of this host. It is stopped, starting, running or error; a host of your own may have more words."""

    def __init__(self, name, settings):
        self.name, self.settings = name, settings
        self.status, self.message, self.visits, self.steps = "stopped", "", 0, 0
        self.life = 0

    def start(self):
        if self.status in ("starting", "running"):
            return
        self.life += 1
        self.status, self.message, self.steps = "starting", "", 0
        threading.Thread(target=self.warm_up, args=(self.life,), daemon=True).start()

    def warm_up(self, life):
        for step in range(1, 4):
            time.sleep(START_MS / 3000)
            if self.life != life:
                return
            self.steps = step
        if self.settings.get("greeting") == "fail":
            self.status, self.message = "error", "it was told to fail"
            return
        self.status = "running"
        say(f"{self.name} runs")

    def stop(self):
        self.life += 1
        if self.status != "stopped":
            self.status = "stopped"
            say(f"{self.name} is stopped")


class Host:
    def __init__(self):
        self.lock = threading.RLock()
        self.file = os.path.join(STATE_DIR, "apps.json")
        self.tokens, self.mood, self.enabled = set(), {}, False
        self.apps = {}
        if os.path.exists(self.file):
            with open(self.file, encoding="utf-8") as kept:
                self.apps = {name: App(name, settings) for name, settings in json.load(kept).items()}

    def keep(self):
        new = self.file + ".new"
        with open(new, "w", encoding="utf-8") as file:
            json.dump({name: app.settings for name, app in self.apps.items()}, file)
        os.replace(new, self.file)


HOST = Host()


class Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "shared-host/" + VERSION

    def log_message(self, *_):
        pass

    def answer(self, status, body, content="application/json"):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def json_body(self):
        length = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(min(length, 1 << 20)) or b"{}")

    def handle_one(self):
        path = urllib.parse.urlsplit(self.path).path
        parts = [urllib.parse.unquote(part) for part in path.split("/") if part]
        # A visitor's request never reaches the host's own interface, whatever its path.
        if self.headers.get("X-App") is None and parts[:1] == ["_host"]:
            return self.own(parts[1:])
        return self.visit(parts)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one

    # --- what nbsupervisor asks ---------------------------------------------------------------------------------

    def own(self, parts):
        mood = HOST.mood
        if parts == ["health"]:
            return self.answer(200, "ok", "text/plain")
        if parts == ["misbehave"] and MISBEHAVE:
            return self.misbehave()
        if mood.get("slow"):
            time.sleep(float(mood["slow"]))
        if mood.get("nonsense"):
            return self.answer(200, "<html>what?</html>", "text/html")
        if parts == ["login"] and self.command == "POST":
            return self.login()
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if PASSWORD and token not in HOST.tokens:
            return self.answer(401, {"error": "sign in first"})
        with HOST.lock:
            return self.signed_in(parts)

    def login(self):
        if self.json_body().get("password") != PASSWORD:
            return self.answer(401, {"error": "wrong password"})
        token = secrets.token_hex(16)
        HOST.tokens.add(token)
        return self.answer(200, {"data": {"token": token}})

    def signed_in(self, parts):
        if parts == ["sharing"]:
            if self.command == "POST":
                HOST.enabled = True
            return self.answer(200, {"enabled": HOST.enabled})
        if not HOST.enabled or parts[:1] != ["apps"]:
            return self.answer(404, {"error": "there is nothing here"})
        if len(parts) == 1:
            if self.command == "POST":
                return self.create(self.json_body())
            rows = [{"name": app.name, "status": app.status, "message": app.message} for app in HOST.apps.values()]
            return self.answer(200, {"apps": rows})
        app = HOST.apps.get(parts[1])
        if self.command == "DELETE":
            if app:
                app.stop()
                del HOST.apps[app.name]
                HOST.keep()
            return self.answer(200, {"ok": True})
        if app is None:
            return self.answer(404, {"error": "no such app"})
        if self.command == "PUT":
            app.settings = {**app.settings, **self.json_body()}
            HOST.keep()
        elif parts[2:] == ["start"] and self.command == "POST":
            app.start()
        elif parts[2:] == ["upgrade"] and self.command == "POST":
            app.settings["upgraded"] = VERSION
            HOST.keep()
        elif parts[2:] == ["stop"] and self.command == "POST":
            # As many hosts do, this one says yes whatever happens.
            if not HOST.mood.get("refuse_stop"):
                app.stop()
        else:
            return self.answer(404, {"error": "there is nothing here"})
        return self.answer(200, {"ok": True})

    def create(self, wanted):
        name = wanted.get("name", "")
        if name in HOST.apps:
            return self.answer(409, {"error": "it is there already"})
        HOST.apps[name] = App(name, wanted.get("settings", {}))
        HOST.keep()
        return self.answer(201, {"ok": True})

    def misbehave(self):
        """nonsense, slow (seconds), refuse_stop: until told otherwise. wake, fail, forget_tokens, crash: at once."""
        wanted = self.json_body()
        HOST.mood = {key: value for key, value in wanted.items() if key in ("nonsense", "slow", "refuse_stop")}
        if wanted.get("forget_tokens"):
            HOST.tokens.clear()
        if wanted.get("wake") in HOST.apps:
            HOST.apps[wanted["wake"]].start()
        if wanted.get("fail") in HOST.apps:
            app = HOST.apps[wanted["fail"]]
            app.life, app.status, app.message = app.life + 1, "error", "it was told to fail"
        self.answer(200, {"ok": True})
        if wanted.get("crash"):
            os._exit(3)

    # --- what visitors ask --------------------------------------------------------------------------------------

    def visit(self, parts):
        name = self.headers.get("X-App")
        if parts[:1] == ["apps"] and len(parts) > 1:
            name, parts = name or parts[1], parts[2:]
        app = HOST.apps.get(name or "")
        if app is None:
            return self.answer(404, {"error": "no such app"})
        if parts == ["health"]:
            if app.status == "running":
                return self.answer(200, "ok", "text/plain")
            return self.answer(503, {"status": app.status, "message": f"warming up, {app.steps}/3"})
        if app.status != "running":
            return self.answer(503, {"status": app.status})
        app.visits += 1
        return self.answer(200, {
            "app": app.name, "pid": os.getpid(), "path": "/" + "/".join(parts), "visits": app.visits,
            "greeting": app.settings.get("greeting"), "secret_known": bool(app.settings.get("secret")),
            "upgraded": app.settings.get("upgraded"),
        })


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    server = Server(("127.0.0.1", int(os.environ["PORT"])), Request)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    say(f"shared-host {VERSION} listens on {server.server_address[1]} with {len(HOST.apps)} apps")
    server.serve_forever(poll_interval=0.05)
    say("shared-host ends")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
