"""healthy.py URL [CA [STATUS]]: ends with 0 if the URL answers with this status (200), its certificate the CA's."""

import socket
import sys
from urllib.parse import urlsplit

url, authority, status = [*sys.argv[1:], *["", "200"][len(sys.argv) - 2 :]]
where = urlsplit(url)
assert where.hostname and where.port
connection: socket.socket = socket.create_connection((where.hostname, where.port), timeout=4)
if where.scheme == "https":
    import ssl  # as slow to load as all the rest: only where it is needed

    connection = ssl.create_default_context(cafile=authority).wrap_socket(connection, server_hostname=where.hostname)
connection.sendall(f"GET {where.path} HTTP/1.0\r\nHost: {where.hostname}\r\n\r\n".encode())
sys.exit(connection.recv(64).split()[1] != status.encode())
