#!/usr/bin/env python3
"""A small web app with nothing but Python's standard library, for trying out nbsupervisor.

It listens on 127.0.0.1:$PORT, or on the unix socket $SOCKET, and serves
    /            a page that shows its name, its process and the request as it arrived
    /ws          a WebSocket that sends back what it is sent (RFC 6455: text, ping, close)
    /slow?ms=N   an answer after N milliseconds
    /health      ok
    /version     {"version": "1.0.0"}
The gateway takes "/apps/<app>" off the path and tells it in X-Forwarded-Prefix, so that links can be made.
"""

import base64
import hashlib
import html
import http.server
import json
import os
import signal
import socket
import socketserver
import struct
import sys
import time
import urllib.parse

NAME = os.environ.get("APP_NAME", "hello")
GREETING = os.environ.get("GREETING", "Hello")
VERSION = "1.0.0"
STARTED = time.time()
MESSAGE_MAX = 1 << 20  # bytes of one WebSocket message

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{name}</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; }}
  table {{ border-collapse: collapse; width: 100%; font-size: .9rem; }}
  td {{ border-top: 1px solid #8884; padding: .3rem .6rem .3rem 0; vertical-align: top; word-break: break-word; }}
  td:first-child {{ white-space: nowrap; opacity: .7; }}
  #log {{ border: 1px solid #8884; border-radius: .5rem; padding: .5rem 1rem; min-height: 4rem; white-space: pre-wrap; }}
  input, button {{ font: inherit; padding: .3rem .6rem; }}
</style></head>
<body>
<h1>{greeting} from {name}</h1>
<p>Process {pid}, up for {uptime} s, you asked for <code>{path}</code>.
   <a href="{prefix}/">this page</a> · <a href="{prefix}/slow?ms=1000">a slow answer</a> · <a href="{prefix}/health">health</a></p>
<h2>WebSocket</h2>
<form id="form"><input id="text" value="ping" aria-label="message"> <button>Send</button></form>
<pre id="log"></pre>
<h2>Your request</h2>
<table>{rows}</table>
<script>
  const log = document.getElementById("log");
  const say = (line) => {{ log.textContent = line + "\\n" + log.textContent; }};
  const socket = new WebSocket(location.origin.replace(/^http/, "ws") + {prefix_js} + "/ws");
  socket.onopen = () => say("connected");
  socket.onmessage = (event) => say("received: " + event.data);
  socket.onclose = () => say("closed");
  document.getElementById("form").onsubmit = (event) => {{
    event.preventDefault();
    socket.send(document.getElementById("text").value);
  }};
</script>
</body></html>
"""


class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "hello/" + VERSION
    disable_nagle_algorithm = not os.environ.get("SOCKET")  # there is none on a unix socket
    timeout = 300  # seconds that a connection may be idle

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/ws":
            self.websocket()
        elif url.path == "/health":
            self.answer(200, "text/plain", "ok")
        elif url.path == "/version":
            self.answer(200, "application/json", json.dumps({"version": VERSION}))
        elif url.path == "/slow":
            self.slow(urllib.parse.parse_qs(url.query))
        elif url.path == "/":
            self.answer(200, "text/html; charset=utf-8", self.page())
        else:
            self.answer(404, "text/plain; charset=utf-8", f"{NAME} has no {self.path}\n")

    do_HEAD = do_GET

    def answer(self, status, kind, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def page(self):
        prefix = self.headers.get("X-Forwarded-Prefix", "").rstrip("/")
        cell = html.escape
        rows = "".join(f"<tr><td>{cell(k)}</td><td>{cell(v)}</td></tr>" for k, v in self.headers.items())
        return PAGE.format(
            name=cell(NAME), greeting=cell(GREETING), pid=os.getpid(), uptime=round(time.time() - STARTED),
            path=cell(self.path), prefix=cell(prefix), rows=rows,
            # "</script>" in a header must not end the script.
            prefix_js=json.dumps(prefix).replace("<", "\\u003c"))

    def slow(self, query):
        try:
            wait = min(max(int(query.get("ms", ["1000"])[0]), 0), 600_000)
        except ValueError:
            return self.answer(400, "text/plain", "ms must be a number\n")
        time.sleep(wait / 1000)
        self.answer(200, "text/plain", f"{NAME} waited {wait} ms\n")

    def websocket(self):
        key = self.headers.get("Sec-WebSocket-Key")
        if self.headers.get("Upgrade", "").lower() != "websocket" or not key:
            return self.answer(426, "text/plain", "this is a WebSocket\n")
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept.decode())
        self.end_headers()
        self.close_connection = True
        self.connection.settimeout(None)
        message = b""
        kind = 0
        while True:
            head = self.rfile.read(2)
            if len(head) < 2:
                return
            final, opcode = head[0] & 0x80, head[0] & 0x0F
            masked, size = head[1] & 0x80, head[1] & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", self.rfile.read(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self.rfile.read(8))
            if not masked:
                return self.frame(8, struct.pack("!H", 1002))
            if size + len(message) > MESSAGE_MAX:
                return self.frame(8, struct.pack("!H", 1009))
            mask = self.rfile.read(4)
            data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(self.rfile.read(size)))
            if opcode == 8:  # close
                return self.frame(8, data[:2])
            if opcode == 9:  # ping
                self.frame(10, data)
            elif opcode in (0, 1, 2):  # continuation, text, binary
                kind = opcode or kind
                message += data
                if final:
                    self.frame(kind, message)
                    message = b""

    def frame(self, opcode, data):
        size = len(data)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 127, size)
        self.wfile.write(head + data)

    def log_message(self, text, *args):
        if self.path != "/health":  # the supervisor asks often
            print(text % args, flush=True)

    def address_string(self):
        return "-"  # a unix socket has no client address


class PortServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128


class SocketServer(PortServer):
    address_family = socket.AF_UNIX
    allow_reuse_address = False  # means nothing for a path

    def server_bind(self):
        if os.path.exists(self.server_address):  # left behind by a killed one
            os.unlink(self.server_address)
        super().server_bind()

    def server_close(self):
        super().server_close()
        try:
            os.unlink(self.server_address)
        except FileNotFoundError:
            pass


def leave(_signal, _frame):
    raise SystemExit(0)


def main():
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    path, port = os.environ.get("SOCKET"), os.environ.get("PORT")
    if path:
        server = SocketServer(path, Hello)
    elif port:
        server = PortServer(("127.0.0.1", int(port)), Hello)
    else:
        sys.exit("set PORT or SOCKET")
    with server:
        print(f"{NAME} {VERSION} listens on {path or '127.0.0.1:%d' % server.server_address[1]}", flush=True)
        try:
            server.serve_forever(poll_interval=60)
        finally:
            print(f"{NAME} ends", flush=True)


if __name__ == "__main__":
    main()
