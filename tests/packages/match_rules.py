"""match_rules.py COUNT: holds COUNT match rules on the system bus; exits with 0 if the bus allowed all of them.

Speaks the wire protocol itself, because the machines have no library for it.
"""
import socket, struct, sys

BUS = {1: ("o", "/org/freedesktop/DBus"), 2: ("s", "org.freedesktop.DBus"), 6: ("s", "org.freedesktop.DBus")}


def text(value):
    raw = value.encode()
    return struct.pack("<I", len(raw)) + raw + b"\0"


def padded(data, to):
    return data + b"\0" * (-len(data) % to)


def call(serial, member, argument=None):
    body = text(argument) if argument else b""
    fields = b""
    for code, (kind, value) in {**BUS, 3: ("s", member)}.items():
        fields = padded(fields, 8) + bytes([code, 1]) + kind.encode() + b"\0" + text(value)
    if argument:
        fields = padded(fields, 8) + bytes([8, 1]) + b"g\0" + b"\1s\0"
    head = struct.pack("<BBBBII", ord("l"), 1, 0, 1, len(body), serial) + struct.pack("<I", len(fields)) + fields
    return padded(head, 8) + body


def answer(stream, serial):
    """The type of the answer to a call: 2 is a return, 3 is an error."""
    while True:
        fixed = stream.read(16)
        kind, length = fixed[1], struct.unpack("<I", fixed[4:8])[0]
        fields = struct.unpack("<I", fixed[12:16])[0]
        rest = stream.read(fields + (-(16 + fields) % 8))[:fields]
        stream.read(length)
        # Field 5 is the serial of the call that is answered; it is an unsigned number, which nothing else here is.
        at = rest.find(b"\5\1u\0")
        if at >= 0 and struct.unpack("<I", rest[at + 4 : at + 8])[0] == serial:
            return kind


bus = socket.socket(socket.AF_UNIX)
bus.settimeout(30)
bus.connect("/run/dbus/system_bus_socket")
stream = bus.makefile("rb")
bus.sendall(b"\0AUTH EXTERNAL 30\r\n")
assert stream.readline().startswith(b"OK"), "the bus knows no root"
bus.sendall(b"BEGIN\r\n")
bus.sendall(call(1, "Hello"))
assert answer(stream, 1) == 2, "the bus does not greet"
for serial in range(2, int(sys.argv[1]) + 2):
    bus.sendall(call(serial, "AddMatch", f"type='signal',member='M{serial}'"))
    if answer(stream, serial) != 2:
        sys.exit(f"the bus refused match rule {serial - 1}")
