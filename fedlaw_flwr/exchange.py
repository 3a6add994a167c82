"""One exchange over a Grid: push once, pull one reply at a time, pass each through the gate, count every byte."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedlaw_flwr.gate import Rejected
from fedlaw_flwr.roster import Silo

Ledger = Callable[[Mapping[str, Any]], None]
"""Where what happened is written: called with one event, a mapping with a `kind`, as it happens."""

_log = logging.getLogger("flwr")
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5
# A reply may be pulled this long after the deadline of its exchange before Flower itself drops it.
_GRACE = 120.0


@dataclass(frozen=True)
class Ask:
    """What one silo is asked in an exchange: its update and loss ("update") or its loss alone ("loss")."""

    silo: Silo
    reply: str = "update"


@dataclass
class Outcome:
    """What an exchange brought. Every silo asked is in exactly one of answered, rejected and silent."""

    answered: list[Silo] = field(default_factory=list)
    rejected: dict[Silo, str] = field(default_factory=dict)
    silent: dict[Silo, str] = field(default_factory=dict)
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: float = 0.0


def exchange(
    grid: Grid,
    asks: Sequence[Ask],
    arrays: ArrayRecord,
    config: Mapping[str, Any],
    receive: Callable[[Ask, RecordDict], None],
    timeout: float,
) -> Outcome:
    """Sends `arrays` and `config` to every silo asked and hands each reply to `receive` as it arrives.

    config: must have `server-round` and `exchange`; each silo's `reply` is added. timeout: seconds until whoever has
    not answered is silent for this exchange. Whatever `receive` raises sets that silo aside ("rejected") with the
    reason; an error reply or none makes it "silent". Neither ends the exchange.
    A reply is dropped before the next is pulled: at no time is more than one held here.
    """
    started = time.monotonic()
    outcome = Outcome()
    waiting = _push(grid, asks, arrays, config, timeout, outcome)
    pause = _SHORTEST_PAUSE
    while waiting:
        overdue = time.monotonic() - started >= timeout
        arrived = 0
        for message_id, ask in list(waiting.items()):
            try:
                pulled = list(grid.pull_messages([message_id]))
            except (httpx.HTTPError, ConnectionError, TimeoutError) as error:
                _log.warning("The SuperLink does not answer (%s); asking again", type(error).__name__)
                break
            except Exception as error:  # the reply itself cannot be read: that silo's doing, and no one else's
                outcome.rejected[ask.silo] = f"its reply cannot be read ({type(error).__name__})"
            else:
                if not pulled:
                    continue
                _take(pulled[0], ask, receive, outcome)
            arrived += 1
            del waiting[message_id]
        if waiting and overdue:
            break
        if waiting:
            # Replies come in bursts: ask often while they come, seldom while silos train.
            pause = _SHORTEST_PAUSE if arrived else min(2 * pause, _LONGEST_PAUSE)
            time.sleep(min(pause, max(0.0, started + timeout - time.monotonic())))
    for ask in waiting.values():
        outcome.silent[ask.silo] = f"no answer within {timeout:g} s"
    outcome.seconds = time.monotonic() - started
    return outcome


def _push(
    grid: Grid,
    asks: Sequence[Ask],
    arrays: ArrayRecord,
    config: Mapping[str, Any],
    timeout: float,
    outcome: Outcome,
) -> dict[str, Ask]:
    """Sends every message in one push; returns the asks by the id under which their reply can be pulled."""
    messages = []
    for ask in asks:
        record = ConfigRecord({**config, "reply": ask.reply})
        content = RecordDict({"arrays": arrays, "config": record})
        group = str(config["server-round"])
        messages.append(Message(content, ask.silo.node_id, MessageType.TRAIN, ttl=timeout + _GRACE, group_id=group))
        outcome.bytes_down += arrays.count_bytes() + record.count_bytes()
    sent = set(grid.push_messages(messages))
    waiting = {}
    for ask, message in zip(asks, messages, strict=True):
        if message.metadata.message_id in sent:
            waiting[message.metadata.message_id] = ask
        else:
            outcome.silent[ask.silo] = "the message could not be sent"
    return waiting


def _take(message: Message, ask: Ask, receive: Callable[[Ask, RecordDict], None], outcome: Outcome) -> None:
    if message.has_error():
        outcome.silent[ask.silo] = f"error {message.error.code}: {_one_line(message.error.reason)}"
        return
    try:
        content = message.content
        outcome.bytes_up += sum(record.count_bytes() for record in content.values())
        receive(ask, content)
    except Rejected as reason:
        outcome.rejected[ask.silo] = str(reason)
    except Exception as error:  # decoding happens inside the gate: what it raises is the sender's fault
        outcome.rejected[ask.silo] = f"its reply cannot be used ({type(error).__name__}: {_one_line(error)})"
    else:
        outcome.answered.append(ask.silo)


def _one_line(text: object) -> str:
    """What a silo said, cut and on one line: it goes into a log that people read."""
    return " ".join(str(text).split())[:160]
