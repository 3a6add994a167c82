"""The ClientApp that Flower ships to every real silo: it hands each message to the silo's own process, and no more.

`fedlaw deploy render` copies this file into the package a run ships: it needs Flower and the standard library alone. It
starts anew for every message and holds no data, no model and no key; whoever replaces it reaches none of them either.
"""

import json
import socket
import struct
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage  # pylint: disable=no-name-in-module

SOCKET = "/run/fedlaw/silo.sock"
"""Where the silo's own process listens, unless the SuperNode's node config names another `socket`."""

_LENGTH = struct.Struct("!Q")


class SiloFailed(RuntimeError):
    """The silo's own process gave no update; the text is all that leaves the institution about it."""


def hand_over(message: Message, context: Context) -> Message:
    """The reply of the silo's own process to this message.

    Sent are the message, the run's id and its configuration; never the SuperNode's context. Raises SiloFailed, which
    Flower turns into an error reply, where that process is not there, refuses or fails.
    """
    path = str(context.node_config.get("socket", SOCKET))
    header = {"run-id": context.run_id, "node-id": context.node_id, "run-config": dict(context.run_config)}
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            send(connection, json.dumps(header).encode(), message_to_proto(message).SerializeToString())
            answer, body = receive(connection)
        except OSError as error:
            raise SiloFailed(
                f"the silo's own process did not answer ({type(error).__name__}); is it running?"
            ) from None
    failure = json.loads(answer).get("error")
    if failure is not None:
        raise SiloFailed(failure)
    return Message(message_from_proto(ProtoMessage.FromString(body)).content, reply_to=message)


def send(connection: socket.socket, *parts: bytes) -> None:
    """Writes each part with its length before it, 8 bytes, big-endian."""
    for part in parts:
        connection.sendall(_LENGTH.pack(len(part)))
        if part:  # the other end may have all it needs, and be gone: nothing is not worth a broken pipe
            connection.sendall(part)


def receive(connection: socket.socket, parts: int = 2, limit: int = 2**31 - 1) -> list[bytes]:
    """Reads that many parts. Raises ConnectionError where the other end stops early or a part exceeds limit bytes."""
    found = []
    for _ in range(parts):
        (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
        if length > limit:
            raise ConnectionError(f"a part of {length} bytes; at most {limit} are taken")
        found.append(_exactly(connection, length))
    return found


def _exactly(connection: socket.socket, length: int) -> bytes:
    """The next `length` bytes."""
    buffer = bytearray(length)
    view, got = memoryview(buffer), 0
    while got < length:
        count = connection.recv_into(view[got:])
        if count == 0:
            raise ConnectionError("the connection was closed before all had come")
        got += count
    return bytes(buffer)


SOURCE = Path(__file__)
"""This file, for whoever packs it."""

app = ClientApp()
app.train()(hand_over)
app.evaluate()(hand_over)
app.query()(hand_over)
