"""The ClientApp that Flower ships to every real silo: it hands each message to the silo's own process, and no more.

`fedlaw deploy render` copies this file into the package a run ships: it needs Flower and the standard library alone. It
starts anew for every message and holds no data, no model and no key; whoever replaces it reaches none of them either.
"""

import json
import os
import socket
import struct
import sys
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage  # pylint: disable=no-name-in-module
from google.protobuf.message import EncodeError

SOCKET = "/run/fedlaw/silo.sock"
"""Where the silo's own process listens, unless the SuperNode's node config names another `socket`."""

LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""The most bytes of a Unix socket's path: what the system takes, less the zero at its end."""

MOST = 2**31 - 1
"""The most bytes of a message or of its answer that the socket takes: more cannot be read as a protocol buffer."""

_LENGTH = struct.Struct("!Q")


class TooLarge(ValueError):
    """A message or an answer has more bytes than the socket takes; the text says how many."""


class SiloFailed(RuntimeError):
    """The silo's own process gave no update; the text is all that leaves the institution about it."""


def hand_over(message: Message, context: Context) -> Message:
    """The reply of the silo's own process to this message.

    Sent are the message, the run's id and its configuration; never the SuperNode's context. Raises SiloFailed, which
    Flower turns into an error reply, where that process is not there, refuses or fails.
    """
    path = str(context.node_config.get("socket", SOCKET))
    header = {"run-id": context.run_id, "node-id": context.node_id, "run-config": dict(context.run_config)}
    try:
        content = packed(message, "the server's message")
    except TooLarge as error:
        raise SiloFailed(str(error)) from None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
        except OSError as error:
            raise SiloFailed(_why_unreachable(path, error)) from None
        try:
            send(connection, json.dumps(header).encode(), content)
            answer, body = receive(connection)
        except OSError as error:
            raise SiloFailed(
                f"the silo's own process did not answer ({type(error).__name__}): it ended in the middle of this "
                "message; its own log says why"
            ) from None
    failure = json.loads(answer).get("error")
    if failure is not None:
        raise SiloFailed(failure)
    return Message(message_from_proto(ProtoMessage.FromString(body)).content, reply_to=message)


def packed(message: Message, whose: str) -> bytes:
    """The message as bytes.

    Args:
        message: What is to be sent.
        whose: What it is, as the sentence about one that is too large names it: "the server's message".

    Raises:
        TooLarge: If it has more bytes than the socket takes, with both numbers; nothing is copied where the arrays
            alone are too many.
    """
    size = sum(len(array.data) for record in message.content.array_records.values() for array in record.values())
    has = f"{size} bytes"
    if size <= MOST:
        try:
            content: bytes = message_to_proto(message).SerializeToString()
        except EncodeError:  # it does not say how many
            has = f"more than {MOST} bytes"
        else:
            if len(content) <= MOST:
                return content
            has = f"{len(content)} bytes"
    limit = f"the socket of the silo's own process takes {MOST} at most"
    raise TooLarge(f"{whose} has {has}, and {limit}: the model is too large for it")


def _why_unreachable(path: str, error: OSError) -> str:
    """Why nobody listens at the silo's socket. The path stays out of it: it is the institution's."""
    said = f"the silo's own process did not answer ({type(error).__name__})"
    if isinstance(error, PermissionError):
        return f"{said}: this process may not use its socket; both need the same user or group"
    if error.errno is None:  # Python's own: the system was not asked
        length = len(os.fsencode(path))
        return f"{said}: its socket's path has {length} bytes, and a Unix socket's may have {LONGEST_SOCKET}"
    return f"{said}; is it running?"


def send(connection: socket.socket, *parts: bytes) -> None:
    """Writes each part with its length before it, 8 bytes, big-endian."""
    for part in parts:
        connection.sendall(_LENGTH.pack(len(part)))
        if part:  # the other end may have all it needs, and be gone: nothing is not worth a broken pipe
            connection.sendall(part)


def receive(connection: socket.socket, parts: int = 2, limit: int = MOST) -> list[bytes]:
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
