"""300 rounds with every class of fault at once: `python -m benchmarks.soak OUT.svg` prints what came of it.

Twenty silos learn digits in this process, four of them hostile (b = 4). All four flip labels; one of them sends junk
as well, one falls silent for good, one sends updates a million times too long. Of the sixteen honest silos one flaps,
one is slow, one joins late, one leaves for good, and one sits out after a silence until it is pardoned. The server is
killed in every 25th round, after the silos have answered and before its checkpoint is written, and goes on from the
one before. The accuracy is held against the same run in which nobody attacks and nothing fails. Time passes only
while the server waits for a reply, so hours of waiting cost nothing.
"""

import gc
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from flwr.proto.node_pb2 import NodeInfo  # pylint: disable=no-name-in-module

from fedlaw_flwr.apps.byzantine.batched import SimulatedSilos
from fedlaw_flwr.apps.experiment import build_strategy, central_evaluation
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.engines.batched import BatchedGrid
from fedlaw_flwr.events.folder import read_events
from fedlaw_flwr.events.types import Event
from fedlaw_flwr.ledger.verify import Written, verify
from fedlaw_flwr.protocol import exchange, retry, roster
from fedlaw_flwr.strategy.callbacks import RoundDone

ROUNDS = 300
KILLED_EVERY = 25
JOINS, FALLS_SILENT, PARDON, LEAVES, REMOVE = 40, 60, 90, 200, 250


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Seconds since it began."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += max(seconds, 1e-6)


@dataclass(frozen=True)
class Cast:
    """Who plays which part, by partition."""

    junk: int
    mute: int
    huge: int
    flapping: int
    slow: int
    late: int
    leaving: int
    pardoned: int

    @classmethod
    def of(cls, settings: Settings) -> "Cast":
        """The attackers of the settings for the hostile parts, the first honest silos for the others."""
        attackers = sorted(settings.attack_plan().attackers)
        honest = [silo for silo in range(settings.num_silos) if silo not in attackers]
        return cls(*attackers[1:4], *honest[:5])


class FaultyGrid(BatchedGrid):
    """The silos of a simulation, some of which fail; named, as in a deployment.

    Args:
        settings: The run's.
        cast: Who fails and how; None: nobody.
    """

    all_present = False

    def __init__(self, settings: Settings, cast: Cast | None) -> None:
        super().__init__(SimulatedSilos(settings), settings.num_silos, settings.as_config())
        self.round = 0
        self._cast = cast
        self._pulls: Counter[str] = Counter()
        self._random = np.random.default_rng(0)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Who is online, under the names that an operator registered."""
        gone: set[int] = set()
        if self._cast is not None:
            gone |= {self._cast.late} if self.round < JOINS else set()
            gone |= {self._cast.leaving} if self.round >= LEAVES else set()
        return [NodeInfo(node_id=node, name=name_of(node - 2)) for node in self._contexts if node - 2 not in gone]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As the engine does; what nobody answered of the exchange before is dropped, as Flower does in time."""
        sent = list(messages)
        self._waiting.clear()
        self._pulls.clear()
        if sent:
            self.round = int(sent[0].metadata.group_id)
        return super().push_messages(sent)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there."""
        return [self._spoiled(key) for key in message_ids if key in self._waiting and self._is_there(key)]

    def _is_there(self, key: str) -> bool:
        if (cast := self._cast) is None:
            return True
        silo = self._waiting[key].metadata.dst_node_id - 2
        self._pulls[key] += 1
        if silo == cast.slow:
            return self.round % 7 != 0 and self._pulls[key] > 5
        away = {cast.flapping: self.round % 3 == 0, cast.pardoned: 70 <= self.round < 80}
        return not (away.get(silo, False) or (silo == cast.mute and self.round >= FALLS_SILENT))

    def _spoiled(self, key: str) -> Message:
        message = self._waiting.pop(key)
        silo, reply = message.metadata.dst_node_id - 2, self._answer(message)
        cast = self._cast
        if cast is None or silo not in (cast.junk, cast.huge) or reply.has_error() or "arrays" not in reply.content:
            return reply
        arrays = reply.content["arrays"]
        assert isinstance(arrays, ArrayRecord)
        name = sorted(arrays)[int(self._random.integers(len(arrays)))]
        value = arrays[name].numpy()
        if silo == cast.huge:
            arrays[name] = Array((value * 1e6).astype(value.dtype))
        elif self.round % 2:
            arrays[name] = Array(np.full_like(value, np.nan))
        else:
            junk = self._random.integers(0, 256, len(arrays[name].data), np.uint8).tobytes()
            arrays[name] = Array(dtype=str(value.dtype), shape=value.shape, stype="numpy.ndarray", data=junk)
        return reply


def name_of(partition: int) -> str:
    """The registered name of a silo."""
    return f"silo-{partition:02}"


@dataclass
class Soaked:
    """What came of a run.

    Attributes:
        cast: Who failed and how; None: nobody.
        accuracies: The accuracy on the test set, by round.
        resident: What this process held of memory after each round, in MiB.
        events: All events, as the run folder has them.
        ledger: The lines of the run's ledger.
        wrong: What does not hold of the ledger.
        waited: Seconds that the server waited for replies.
    """

    cast: Cast | None
    accuracies: dict[int, float] = field(default_factory=dict)
    resident: list[float] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    waited: float = 0.0

    def of(self, kind: str) -> list[Any]:
        """The events of a kind."""
        return [event for event in self.events if event.kind == kind]


class Killed(BaseException):
    """The server's process ends here."""


def settings_for(rounds: int, faults: bool) -> Settings:
    """The settings of the run."""
    return Settings.read(
        {
            "num-rounds": rounds,
            "max-byzantine": 4,
            "attack": "label_flipping" if faults else "none",
            "byzantine-chosen": "random",
            "refresh-every": 20,  # so that who joined late or was pardoned is weighed again
            "local-epochs": 1,
            "evaluate-every": 5,
            "timeout": 60.0,
        }
    )


def soak(rounds: int = ROUNDS, faults: bool = True) -> Soaked:
    """One run.

    Args:
        rounds: How many rounds. Default: 300.
        faults: Whether anybody attacks, anything fails and the server is killed. Default: yes.
    """
    settings = settings_for(rounds, faults)
    found = Soaked(Cast.of(settings) if faults else None)
    clock, grid = Clock(), FaultyGrid(settings, found.cast)
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        for module in (exchange, roster, retry):
            stack.enter_context(patch.object(module, "time", clock))
        stack.enter_context(patch("fedlaw_flwr.strategy.account.Account._report", lambda account: ""))
        folder, killed = Path(place) / "run", set[int]()
        while not _serve(settings, folder, grid, found, killed):
            gc.collect()  # a process that is killed gives its memory back
        found.events = list(read_events(folder))
        ledger = Written.read(folder)
        found.ledger = [dict(entry) for entry in ledger.entries]
        found.wrong = [one.what for one in verify(ledger, ended=True) if one.kind == "wrong"]
    found.waited = clock.now
    return found


def _serve(settings: Settings, folder: Path, grid: FaultyGrid, found: Soaked, killed: set[int]) -> bool:
    """A server's life: from the last checkpoint to the end of the run (True) or until it is killed."""
    task, process = settings.load_task(), psutil.Process()
    strategy = build_strategy(settings, lambda event: None, checkpoint=folder)

    def ended(done: RoundDone) -> None:
        if found.cast is not None and done.round % KILLED_EVERY == 0 and done.round not in killed:
            killed.add(done.round)
            raise Killed
        found.resident.append(process.memory_info().rss / 2**20)
        if "accuracy" in done.metrics:
            found.accuracies[done.round] = float(done.metrics["accuracy"])
        if found.cast is not None and done.round == PARDON:
            strategy.pardon(name_of(found.cast.pardoned))
        if found.cast is not None and done.round == REMOVE:
            strategy.remove(name_of(found.cast.leaving))

    strategy.on_round_end = ended
    # Of twenty silos nineteen are there when the run begins.
    strategy.num_silos, strategy.min_available_nodes = settings.num_silos, settings.num_silos - 1
    strategy.quorum = settings.num_silos // 2
    try:
        strategy.start(
            grid,
            ArrayRecord(task.build_model(settings.seed).state_dict()),
            num_rounds=settings.num_rounds,
            timeout=settings.timeout,
            train_config=ConfigRecord({"lr": settings.lr}),
            evaluate_fn=central_evaluation(settings, task),
            resume=True,
        )
    except Killed:
        return False
    return True


def growth(resident: list[float]) -> float:
    """By how much memory grew over the last two thirds of a run, in MiB: the medians of their first and last tenth."""
    later = resident[len(resident) // 3 :]
    tenth = max(1, len(later) // 10)
    return float(np.median(later[-tenth:]) - np.median(later[:tenth]))


def draw(soaked: Soaked, plain: Soaked, target: Path) -> None:
    """Accuracy and memory over the rounds of both runs, as a picture."""
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(7, 5), layout="constrained")
    for name, run in (("every fault at once", soaked), ("no fault", plain)):
        above.plot(*zip(*run.accuracies.items(), strict=True), label=name)
        below.plot(range(1, len(run.resident) + 1), run.resident, label=name)
    above.set(ylabel="accuracy on the test set", ylim=(0.8, 1.0))
    below.set(xlabel="round", ylabel="memory of the process, MiB", ylim=(0, None))
    above.legend()
    figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)


def main() -> None:
    """Runs both, prints what came of them, and draws where a file is named."""
    logging.disable(logging.CRITICAL)
    plain, soaked = soak(faults=False), soak()
    last = max(soaked.accuracies)
    print(f"accuracy after {last} rounds: {soaked.accuracies[last]:.4f}, without faults {plain.accuracies[last]:.4f}")
    counts = Counter(event.kind for event in soaked.events)
    print("events:", ", ".join(f"{kind} {counts[kind]}" for kind in sorted(counts)))
    print(f"ledger: {len(soaked.ledger)} lines, wrong: {soaked.wrong or 'nothing'}")
    print(f"skipped rounds: {sum(event.skipped for event in soaked.of('round'))}; waited {soaked.waited:.0f} s")
    for name, run in (("with", soaked), ("without", plain)):
        print(f"memory {name} faults: peak {max(run.resident):.1f} MiB, growth {growth(run.resident):+.2f} MiB")
    if len(sys.argv) > 1:
        draw(soaked, plain, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
