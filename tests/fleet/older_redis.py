"""Forwards to the Redis server on this host, and puts another version into its answers.

older_redis.py PORT VERSION OLDER. No old server can be had as a package, so its version is the one thing that is played.
"""
import socket
import sys
import threading

port, version, older = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3].encode()


def pump(source, sink, change):
    while data := source.recv(65536):
        sink.sendall(data.replace(version, older) if change else data)
    sink.close()


server = socket.create_server(("0.0.0.0", port))
while True:
    client, _ = server.accept()
    real = socket.create_connection(("127.0.0.1", 6379))
    threading.Thread(target=pump, args=(client, real, False), daemon=True).start()
    threading.Thread(target=pump, args=(real, client, True), daemon=True).start()
