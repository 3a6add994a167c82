"""One message to a ClientApp in this process, as it would arrive at a silo, and what came of it."""

import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from fedlaw_flwr.protocol.text import cause

SERVER, SILO = 1, 2
"""Node ids: under which the SuperLink speaks, and under which the client does."""


@dataclass(frozen=True)
class Answer:
    """What came of one message: the reply's records or, where there is none, why, in one line."""

    content: RecordDict | None
    failure: str
    seconds: float
    changed: str = ""  # the key of an array of the message itself that is another one now
    reply_to: bool = False  # whether the reply is addressed as one to the message


def ask(app: ClientApp, content: RecordDict, context: Context, message_type: str, seconds: float) -> Answer:
    """Sends these records to the client.

    What the client raises, and that it takes too long, is told in the answer and not raised.

    Args:
        app: The client.
        content: The records of the message.
        context: The context that the client is given.
        message_type: The type of the message.
        seconds: After how long the message is given up.

    Returns:
        What came of the message.
    """
    before = _data(content)
    message = _message(content, message_type)
    started = time.monotonic()
    reply, failure = _called(app, message, context, seconds)
    took = time.monotonic() - started
    after = _data(content)
    changed = next((key for key, data in before.items() if after.get(key) != data), "")
    if reply is None:
        return Answer(None, failure, took, changed)
    return Answer(reply.content, "", took, changed, reply.metadata.reply_to_message_id == message.metadata.message_id)


def _called(app: ClientApp, message: Message, context: Context, seconds: float) -> tuple[Message | None, str]:
    """The client's reply or, where there is none, why."""
    try:
        with _at_most(seconds):
            reply = app(message, context)
    except _Overdue:
        return None, f"it gave no answer within {seconds:g} s"
    except (Exception, SystemExit) as error:  # as Flower does: the silo failed
        return None, f"it raised {type(error).__name__}: {cause(error)}"
    if not isinstance(reply, Message):
        return None, f"it returned {type(reply).__name__} where a Message is expected"
    if reply.has_error():
        return None, f"it replied error {reply.error.code}: {cause(reply.error.reason or '') or 'no reason given'}"
    return reply, ""


def _data(content: RecordDict) -> dict[str, bytes]:
    """The serialised arrays of a message, by key."""
    return {key: array.data for record in content.array_records.values() for key, array in record.items()}


def _message(content: RecordDict, message_type: str) -> Message:
    """A message as it arrives at a silo."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, 1, SERVER
    message = Message(content, SILO, message_type, group_id="1")
    message.metadata.__dict__["_message_id"] = str(uuid.uuid4())
    return message


class _Overdue(BaseException):
    """Raised inside a client that took too long; no Exception, which the client may catch."""


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Ends what runs in it after so long, by SIGALRM; outside the main thread, where there is none, nothing ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise _Overdue

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
