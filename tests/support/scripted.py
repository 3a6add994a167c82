"""A Grid whose silos are plain functions: each gets what it was sent and says what its reply is, junk included.

def honest(received: Received) -> RecordDict:
    return reply({"w": received.arrays["w"] - 0.1}, loss=1.0)

grid = ScriptedGrid([honest, honest, lambda received: None])
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

_SERVER = 1
_CLIENT_APP_EXCEPTION = 2


@dataclass(frozen=True)
class Received:
    """What one silo was sent. `silo` is its index in the grid; round, exchange and reply are empty if not sent."""

    silo: int
    round: int
    exchange: int
    reply: str
    config: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    message_type: str


@dataclass(frozen=True)
class Late:
    """An answer that is not there yet for the first `pulls` pulls of it."""

    answer: "Answer"
    pulls: int


Answer = RecordDict | Error | Message | Exception | Late | None
"""RecordDict: the content of a reply. Error: an error reply. Message: handed over as it is. Exception: raised by every
pull of this reply, as Flower does with bytes it cannot read. None: silence. Late: any of these, later."""

Script = Callable[[Received], Answer]
"""Called once for each message, when its reply is first pulled. What it raises becomes Flower's error reply, code 2."""


class ScriptedGrid(Grid):
    """A silo for each script, with the node ids (default 2, 3, ...) and the registered names given (default none).

    late(received): for how many pulls the reply to a message is not there yet; decides the order of arrival.
    down: numbers of the pulls (counted from 0 over the grid's life) that find no SuperLink: httpx.ConnectError.
    unsent: indices of silos whose messages the SuperLink refuses to take.
    Public for assertions: `received`, every message in the order sent; `pulls`, how many were made; `pulled`, the silo
    of each. `online` (indices) may be changed between rounds.
    """

    def __init__(
        self,
        silos: Sequence[Script],
        names: Sequence[str] | None = None,
        *,
        node_ids: Sequence[int] | None = None,
        late: Callable[[Received], int] = lambda received: 0,
        down: Collection[int] = (),
        unsent: Collection[int] = (),
    ) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, 1, _SERVER
        self.scripts = list(silos)
        self.node_ids = list(node_ids or range(2, len(self.scripts) + 2))
        self.names = list(names or [""] * len(self.scripts))
        self.online = set(range(len(self.scripts)))
        self.received: list[Received] = []
        self.pulls = 0
        self.pulled: list[int] = []
        self._late, self._down, self._unsent = late, down, unsent
        self._run = Run.create_empty(1)
        self._ids = itertools.count()
        self._waiting: dict[str, _Waiting] = {}

    def asked(self, round: int, exchange: int) -> dict[int, str]:
        """What every silo asked in this exchange was asked for ("update" or "loss"), by index."""
        return {r.silo: r.reply for r in self.received if (r.round, r.exchange) == (round, exchange)}

    # -- Flower's Grid -----------------------------------------------------------------------------------------

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return [node.node_id for node in self.get_nodes()]

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [NodeInfo(node_id=self.node_ids[i], name=self.names[i]) for i in sorted(self.online)]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        sent = []
        for message in messages:
            message_id = f"message {next(self._ids)}"
            message.metadata.__dict__["_message_id"] = message_id
            silo = self.node_ids.index(message.metadata.dst_node_id)
            if silo in self.online and silo not in self._unsent:
                received = _read(silo, message)
                self.received.append(received)
                self._waiting[message_id] = _Waiting(message, received, self._late(received))
                sent.append(message_id)
        return sent

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        number, self.pulls = self.pulls, self.pulls + 1
        if number in self._down:
            raise httpx.ConnectError("connection refused")
        return [reply for key in message_ids if key in self._waiting for reply in self._answer(key)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """For Flower's own strategies: 100 pulls, then whoever has not answered is silent."""
        waiting = set(self.push_messages(messages))
        replies: list[Message] = []
        for _ in range(100):
            replies += self.pull_messages(sorted(waiting & self._waiting.keys()))
        return replies

    def _answer(self, key: str) -> list[Message]:
        """The reply to one message, if it is there. It is not kept here once it is handed over."""
        waiting = self._waiting[key]
        self.pulled.append(waiting.received.silo)
        answer = waiting.pull(self.scripts[waiting.received.silo])
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            return []
        del self._waiting[key]
        return [answer]


class _Waiting:
    """A message whose reply was not yet handed over, and for how many more pulls it is not there."""

    def __init__(self, message: Message, received: Received, late: int) -> None:
        self.received = received
        self._message, self._late = message, late
        self._answer: Answer = None
        self._asked = False

    def pull(self, script: Script) -> Message | Exception | None:
        if self._late > 0:
            self._late -= 1
            return None
        if not self._asked:
            self._asked = True
            try:
                self._answer = script(self.received)
            except Exception as error:
                self._answer = Error(_CLIENT_APP_EXCEPTION, f"{type(error).__name__}: {error}")
            if isinstance(self._answer, Late):
                self._late, self._answer = self._answer.pulls, self._answer.answer
                return self.pull(script)
        if isinstance(self._answer, RecordDict | Error):
            return Message(self._answer, reply_to=self._message)
        assert not isinstance(self._answer, Late), "one Late inside another"
        return self._answer


def _read(silo: int, message: Message) -> Received:
    config: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for record in message.content.values():
        if isinstance(record, ArrayRecord):
            arrays |= {key: array.numpy() for key, array in record.items()}
        elif isinstance(record, ConfigRecord):
            config |= dict(record)
    return Received(
        silo=silo,
        round=int(config.get("server-round", 0)),
        exchange=int(config.get("exchange", 0)),
        reply=str(config.get("reply", "")),
        config=config,
        arrays=arrays,
        message_type=message.metadata.message_type,
    )


def record_of(arrays: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """Arrays as Flower sends them."""
    return ArrayRecord({key: Array(np.asarray(value)) for key, value in arrays.items()})


def reply(
    arrays: Mapping[str, NDArray[Any]] | ArrayRecord | None = None,
    loss: Any = 1.0,
    *,
    loss_key: str = "loss",
    partition: Any = None,
    examples: int = 10,
) -> RecordDict:
    """A silo's reply in Flower's standard form; arrays=None leaves the arrays out, loss=None the whole MetricRecord."""
    content = RecordDict()
    if arrays is not None:
        content["arrays"] = arrays if isinstance(arrays, ArrayRecord) else record_of(arrays)
    if loss is not None:
        content["metrics"] = MetricRecord({loss_key: loss, "num-examples": examples})
    if partition is not None:
        content["config"] = ConfigRecord({"partition-id": partition})
    return content


class Clock:
    """Time that passes only when somebody sleeps, so that waiting costs nothing and deadlines fall where they must."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0, f"sleep({seconds})"
        self.slept.append(seconds)
        self.now += max(seconds, 1e-6)  # a loop that sleeps for nothing must still reach its deadline


@contextmanager
def stopped_clock(*modules: str) -> Iterator[Clock]:
    """Puts a Clock in place of `time` in the modules named; by default those that wait."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        for module in modules or (
            "fedlaw_flwr.protocol.exchange",
            "fedlaw_flwr.protocol.roster",
            "fedlaw_flwr.protocol.retry",
        ):
            patch.setattr(f"{module}.time", clock)
        yield clock
