"""The bare loop: StartTransientUnit over a plain D-Bus connection, and nothing around it.

Speaks the wire protocol itself, on one blocking socket: what is measured is systemd, not a library. The properties of a
unit are not known here: they are taken, as bytes, from a call that the daemon sent (`watch_call`). A call for another
unit is the same bytes with another name of the same length.
"""

import os
import socket
import struct
import time

SYSTEMD = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
MANAGER = f"{SYSTEMD}.Manager"
BUS = "org.freedesktop.DBus"
LIMIT = 60  # seconds that nothing may come
CALL, ANSWER, ERROR, SIGNAL = 1, 2, 3, 4


def padded(raw, to):
    return raw + bytes(-len(raw) % to)


def text(value):
    raw = value.encode()
    return struct.pack("<I", len(raw)) + raw + b"\0"


def texts(*values):
    """A body of strings."""
    body = b""
    for value in values:
        body = padded(body, 4) + text(value)
    return body


class Message:
    """One that came, as far as it matters here."""

    def __init__(self, kind, serial, fields, body):
        self.kind, self.serial, self.body = kind, serial, body
        self.path, self.interface, self.member, self.error, self.answers = (fields.get(n) for n in range(1, 6))
        self.signature = fields.get(8, "")

    def string(self, at):
        """The string at this offset, and where the next value may begin."""
        at += -at % 4
        (size,) = struct.unpack_from("<I", self.body, at)
        return self.body[at + 4 : at + 4 + size].decode(), at + 5 + size


class Connection:
    """To a bus, as root."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT)
        self.socket.connect(path)
        self.raw, self.serial = b"", 0
        self.socket.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        if not self.socket.recv(256).startswith(b"OK"):
            raise SystemExit(f"the bus at {path} does not want us")
        self.socket.sendall(b"BEGIN\r\n")
        self.ask(BUS, "/org/freedesktop/DBus", BUS, "Hello")

    def send(self, to, path, interface, member, signature="", body=b""):
        self.serial += 1
        fields = b""
        for code, kind, value in ((1, "o", path), (2, "s", interface), (3, "s", member), (6, "s", to)):
            fields = padded(fields, 8) + bytes([code, 1]) + kind.encode() + b"\0" + text(value)
        if signature:
            raw = signature.encode()
            fields = padded(fields, 8) + bytes([8, 1]) + b"g\0" + bytes([len(raw)]) + raw + b"\0"
        head = struct.pack("<4BIII", ord("l"), CALL, 0, 1, len(body), self.serial, len(fields))
        self.socket.sendall(padded(head + fields, 8) + body)
        return self.serial

    def receive(self):
        while True:
            if len(self.raw) >= 16:
                size, serial, fields = struct.unpack_from("<III", self.raw, 4)
                begin = 16 + fields + -fields % 8
                if len(self.raw) >= begin + size:
                    whole, self.raw = self.raw[: begin + size], self.raw[begin + size :]
                    return Message(whole[1], serial, self.fields(whole, 16 + fields), whole[begin:])
            more = self.socket.recv(1 << 18)
            if not more:
                raise SystemExit("the bus closed the connection")
            self.raw += more

    @staticmethod
    def fields(raw, end):
        at, fields = 16, {}
        while at < end:
            at += -at % 8
            code, kind = raw[at], raw[at + 2 : at + 3]
            at += 4
            if kind == b"u":
                (fields[code],) = struct.unpack_from("<I", raw, at)
                at += 4
            elif kind == b"g":
                fields[code] = raw[at + 1 : at + 1 + raw[at]].decode()
                at += raw[at] + 2
            else:
                (size,) = struct.unpack_from("<I", raw, at)
                fields[code] = raw[at + 4 : at + 4 + size].decode()
                at += size + 5
        return fields

    def ask(self, *call):
        """A call and its answer; what else comes meanwhile is left."""
        serial = self.send(*call)
        while (message := self.receive()).answers != serial:
            pass
        if message.kind == ERROR:
            raise SystemExit(f"{call[3]}: {message.error} {message.string(0)[0]}")
        return message

    def hear_jobs(self):
        """From now on systemd tells this connection of the ends of jobs."""
        rule = f"type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobRemoved'"
        self.ask(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", "s", texts(rule))
        self.ask(SYSTEMD, PATH, MANAGER, "Subscribe")

    def job_ended(self, message):
        """The unit and the result of a JobRemoved; None for any other message."""
        if message.kind == ERROR:
            raise SystemExit(f"systemd refused a call: {message.error} {message.string(0)[0]}")
        if message.kind != SIGNAL or message.member != "JobRemoved":
            return None
        _, at = message.string(4)
        unit, at = message.string(at)
        return unit, message.string(at)[0]

    def pipeline(self, calls, together):
        """Sends calls (member, signature, body) that each make a job, so many under way; returns when all jobs ended.

        The units are those that the bodies begin with."""
        waiting, pending = list(calls)[::-1], set()
        begun = time.monotonic()
        while waiting or pending:
            while waiting and len(pending) < together:
                member, signature, body = waiting.pop()
                pending.add(unit_of(body))
                self.send(SYSTEMD, PATH, MANAGER, member, signature, body)
            ended = self.job_ended(self.receive())
            if ended and ended[0] in pending:
                if ended[1] != "done":
                    raise SystemExit(f"the job of {ended[0]} ended with {ended[1]}")
                pending.remove(ended[0])
        return time.monotonic() - begun

    def wait_jobs(self, units):
        """Waits until a job of each of these units has ended well."""
        pending = set(units)
        while pending:
            ended = self.job_ended(self.receive())
            if ended and ended[0] in pending:
                if ended[1] != "done":
                    raise SystemExit(f"the job of {ended[0]} ended with {ended[1]}")
                pending.remove(ended[0])

    def watch_call(self, member, trigger):
        """Makes this connection a monitor, has something happen, and returns signature and body of the first such call."""
        rule = texts(f"type='method_call',member='{member}'")
        body = struct.pack("<I", len(rule)) + rule
        body = padded(body, 4) + struct.pack("<I", 0)
        self.ask(BUS, "/org/freedesktop/DBus", f"{BUS}.Monitoring", "BecomeMonitor", "asu", body)
        trigger()
        while True:
            message = self.receive()
            if message.kind == CALL and message.member == member:
                return message.signature, message.body


def unit_of(body):
    """The unit that a call is about: its first argument."""
    (size,) = struct.unpack_from("<I", body)
    return body[4 : 4 + size].decode()


def stop(unit):
    return "StopUnit", "ss", texts(unit, "replace")


def minimal(unit):
    """A service that sleeps, and nothing more: Type, ExecStart."""
    properties = b""
    body = padded(texts(unit, "fail"), 4)
    begin = len(body) + 4
    begin += -begin % 8
    for name, signature, value in (
        ("Type", "s", lambda _: text("exec")),
        ("ExecStart", "a(sasb)", command),
    ):
        properties = padded(properties, 8) + text(name)
        raw = signature.encode()
        properties += bytes([len(raw)]) + raw + b"\0"
        properties = padded(properties, 4)
        properties += value(begin + len(properties))
    body = padded(body + struct.pack("<I", len(properties)), 8) + properties
    body = padded(body, 4) + struct.pack("<I", 0)
    return "StartTransientUnit", "ssa(sv)a(sa(sv))", padded(body, 8)


def command(at):
    """An a(sasb) that begins at this offset of its body."""
    argv = texts("/bin/sleep", "infinity")
    first = 4 + -(at + 4) % 8  # the length, and the gap in front of the struct
    item = padded(text("/bin/sleep"), 4) + struct.pack("<I", len(argv)) + argv
    item = padded(item, 4) + struct.pack("<I", 0)
    return struct.pack("<I", len(item)) + bytes(first - 4) + item
