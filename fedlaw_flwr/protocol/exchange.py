"""One exchange over a Grid: push once, pull one reply at a time, pass each through the gate, count every byte."""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedlaw_flwr.protocol.gate import Rejected
from fedlaw_flwr.protocol.legacy import TODAYS, RecordNames, standard
from fedlaw_flwr.protocol.retry import OUTAGE, retried
from fedlaw_flwr.protocol.roster import Silo
from fedlaw_flwr.protocol.text import cause

NOT_SENT = "the message could not be sent"
"""Why a silo is silent that the SuperLink would not take a message for."""
OF_THE_CLIENT = "error 2: "
"""How the reason of a silo begins whose ClientApp raised an error."""

_log = logging.getLogger("flwr")
_LONGEST_REASON = 180  # characters of what a silo says of itself that get into the log
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5
# After a pass, the pause is at least so many times as long as the pulls in it that brought nothing. In a simulation
# they and the silos' replies share one process: with 200 silos they took nearly half of an exchange.
_REST = 10.0
# A pull that takes longer than this was an outage of the SuperLink or a reply that did not come through.
_STALL = 5.0
# A reply may be pulled this long after the deadline of its exchange before Flower itself drops it.
_GRACE = 120.0


@dataclass(frozen=True)
class Ask:
    """What one silo is asked in an exchange.

    Attributes:
        silo: The silo.
        reply: "update": its update and its loss; "loss": its loss alone; "review": its update, its loss, and its review
            of the model sent out. Default: "update".
    """

    silo: Silo
    reply: str = "update"


@dataclass(frozen=True)
class Arrived:
    """What came from one silo, whatever became of it.

    Attributes:
        bytes: The bytes of the reply's records, as `payload_bytes` counts them; 0 for an error.
        seconds: How long after the beginning of the exchange it was there.
        digest: What `content_digest` gives; "" for an error, or where nobody asked for it.
    """

    bytes: int
    seconds: float
    digest: str = ""


@dataclass
class Outcome:
    """What an exchange brought. Every silo asked is in exactly one of answered, rejected and silent.

    Attributes:
        answered: The silos whose reply was usable.
        rejected: The silos whose reply was rejected, with the reason.
        silent: The silos that gave no reply within the timeout or an error in place of one, with the reason.
        bytes_down: The bytes of the messages to the silos, as `payload_bytes` counts them.
        bytes_up: The bytes of the replies, counted likewise.
        seconds: How long the exchange took, in seconds.
        arrived: What came from each silo that sent a reply or an error.
    """

    answered: list[Silo] = field(default_factory=list)
    rejected: dict[Silo, str] = field(default_factory=dict)
    silent: dict[Silo, str] = field(default_factory=dict)
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: float = 0.0
    arrived: dict[Silo, Arrived] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """How many silos were asked."""
        return len(self.answered) + len(self.rejected) + len(self.silent)

    def leave_out(self, silo: Silo) -> None:
        """Treats this silo as if it had not been asked; the bytes and seconds stay."""
        self.answered = [one for one in self.answered if one.node_id != silo.node_id]
        for part in (self.rejected, self.silent, self.arrived):
            part.pop(silo, None)


def run_exchange(
    grid: Grid,
    asks: Sequence[Ask],
    arrays: ArrayRecord,
    config: Mapping[str, Any],
    receive: Callable[[Ask, RecordDict], None],
    timeout: float,
    message_type: str = MessageType.TRAIN,
    names: RecordNames = TODAYS,
    with_digests: bool = False,
) -> Outcome:
    """Sends `arrays` and `config` to every silo asked and hands each reply to `receive` as it arrives.

    Whatever `receive` raises makes that silo's reply "rejected", with the reason. An error reply or none makes the silo
    "silent". Neither ends the exchange. A reply is dropped before the next is pulled: no two are ever held here.

    Args:
        grid: Flower's grid, through which messages go.
        asks: Whom to ask, and for what.
        arrays: The model that is sent.
        config: What is sent besides; must have `server-round` and `exchange`. Each silo's `reply` is added.
        receive: Called with the ask and the content of its reply.
        timeout: Seconds until a silo that has not answered is silent for this exchange. Up to two minutes in which the
            SuperLink itself did not answer are added.
        message_type: Flower's type of the messages. Default: "train".
        names: Under which names a message has `arrays` and `config`. Default: these.
        with_digests: Whether the digest of every reply is taken. Default: no.

    Returns:
        What became of every silo asked, the bytes and the seconds.
    """
    started = time.monotonic()
    outcome = Outcome()
    keys = list(arrays)

    def read(ask: Ask, content: RecordDict) -> None:
        receive(ask, standard(content, keys))

    def note(ask: Ask, message: Message) -> None:
        size, digest = 0, ""
        if not message.has_error():
            size = payload_bytes(message.content)
            digest = content_digest(message.content) if with_digests else ""
        outcome.bytes_up += size
        outcome.arrived[ask.silo] = Arrived(size, time.monotonic() - started, digest)

    waiting = _push(grid, asks, arrays, config, timeout, message_type, names, outcome)
    pause, lost = _SHORTEST_PAUSE, 0.0
    while waiting:
        deadline = started + timeout + min(lost, _GRACE)
        overdue = time.monotonic() >= deadline
        before = time.monotonic()
        arrived, stalled, vain, reachable = _pass_over(grid, waiting, read, outcome, note)
        if waiting and overdue:
            break
        if waiting:
            # Replies come in bursts: ask often while they come, seldom while silos train.
            pause = _SHORTEST_PAUSE if arrived else min(2 * pause, _LONGEST_PAUSE)
            rest = min(max(pause, _REST * vain), _LONGEST_PAUSE)
            time.sleep(min(rest, max(0.0, deadline - time.monotonic())) if reachable else rest)
        lost += stalled if reachable else time.monotonic() - before
    for ask in waiting.values():
        outcome.silent.setdefault(ask.silo, f"no answer within {timeout:g} s")
    outcome.seconds = time.monotonic() - started
    return outcome


def payload_bytes(content: Mapping[str, Any]) -> int:
    """The bytes of a message's records: array data as serialised, numbers as 8, texts and names as UTF-8."""
    total = 0
    for name, record in content.items():
        total += len(name.encode())
        for key, value in record.items():
            total += len(key.encode()) + (len(value.data) if isinstance(value, Array) else _size(value))
    return total


def content_digest(content: Mapping[str, Any]) -> str:
    """SHA-256 over a message's records in order: names, keys and values, each with its length before it.

    Array data are taken as serialised, other values as Python writes them.

    Returns:
        64 hexadecimal digits.
    """
    found = hashlib.sha256()

    def add(part: bytes) -> None:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)

    for name, record in content.items():
        add(name.encode())
        for key, value in record.items():
            add(key.encode())
            add(value.data if isinstance(value, Array) else repr(value).encode())
    return found.hexdigest()


def _pass_over(
    grid: Grid,
    waiting: dict[str, Ask],
    receive: Callable[[Ask, RecordDict], None],
    outcome: Outcome,
    note: Callable[[Ask, Message], None],
) -> tuple[int, float, float, bool]:
    """One pull for each reply waited for.

    Returns:
        How many came, the seconds lost to stalls, those of pulls that brought nothing, whether the SuperLink answers.
    """
    arrived, stalled, vain = 0, 0.0, 0.0
    for message_id, ask in list(waiting.items()):
        began = time.monotonic()
        try:
            pulled = list(grid.pull_messages([message_id]))
        except OUTAGE as error:
            _log.warning("The SuperLink does not answer (%s); asking again", type(error).__name__)
            return arrived, stalled, vain, False
        except httpx.HTTPStatusError:
            continue  # the SuperLink is there and cannot give out this one reply; the others need not wait for it
        except Exception as error:  # the reply itself cannot be read: that silo's doing, and no one else's
            outcome.rejected[ask.silo] = f"its reply cannot be read ({type(error).__name__})"
        else:
            took = time.monotonic() - began
            stalled += took if took > _STALL else 0.0
            if not pulled:
                vain += took
                continue
            _take(pulled.pop(0), ask, receive, outcome, note)
        arrived += 1
        del waiting[message_id]
    return arrived, stalled, vain, True


def _push(
    grid: Grid,
    asks: Sequence[Ask],
    arrays: ArrayRecord,
    config: Mapping[str, Any],
    timeout: float,
    message_type: str,
    names: RecordNames,
    outcome: Outcome,
) -> dict[str, Ask]:
    """Sends every message in one push; returns the asks by the id under which their reply can be pulled."""
    messages = []
    group = str(config["server-round"])
    told = {reply: ConfigRecord({**config, "reply": reply}) for reply in {ask.reply for ask in asks}}
    sizes = {reply: payload_bytes(names.content(message_type, arrays, record)) for reply, record in told.items()}
    for ask in asks:
        # A copy: what a silo in this process does to its config is no one else's concern.
        content = names.content(message_type, arrays, told[ask.reply].copy())
        messages.append(Message(content, ask.silo.node_id, message_type, ttl=timeout + _GRACE, group_id=group))
        outcome.bytes_down += sizes[ask.reply]
    sent = set(retried(lambda: list(grid.push_messages(messages)), timeout))
    waiting = {}
    for ask, message in zip(asks, messages, strict=True):
        if message.metadata.message_id in sent:
            waiting[message.metadata.message_id] = ask
        else:
            outcome.silent[ask.silo] = NOT_SENT
    return waiting


def _take(
    message: Message,
    ask: Ask,
    receive: Callable[[Ask, RecordDict], None],
    outcome: Outcome,
    note: Callable[[Ask, Message], None],
) -> None:
    try:
        note(ask, message)
        if message.has_error():
            reason = cause(message.error.reason or "no reason", _LONGEST_REASON)
            outcome.silent[ask.silo] = f"error {message.error.code}: {reason}"
            return
        receive(ask, message.content)
    except Rejected as refusal:
        outcome.rejected[ask.silo] = str(refusal)
    except Exception as error:  # decoding happens inside the gate: what it raises is the sender's fault
        outcome.rejected[ask.silo] = (
            f"its reply cannot be used ({type(error).__name__}: {cause(error, _LONGEST_REASON)})"
        )
    else:
        outcome.answered.append(ask.silo)


def _size(value: Any) -> int:
    if isinstance(value, list):
        return sum(_size(item) for item in value)
    if isinstance(value, str):
        return len(value.encode())
    return len(value) if isinstance(value, bytes) else 8
