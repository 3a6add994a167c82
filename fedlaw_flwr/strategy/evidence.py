"""What a strategy writes into the run's ledger, and how its heads reach the silos, which keep them."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, MessageType
from flwr.serverapp import Grid

from fedlaw_flwr.checkpoints.store import Checkpoints
from fedlaw_flwr.core.state import State
from fedlaw_flwr.events.record import EXCLUDED_AT
from fedlaw_flwr.events.types import (
    EvaluatedBySilos,
    Event,
    Joined,
    NotAdmitted,
    Pardoned,
    Removed,
    RoundEnded,
    SitsOut,
)
from fedlaw_flwr.ledger.heads import HEAD_ALONE, LEDGER_HEAD
from fedlaw_flwr.ledger.lines import LEDGER, model_digest
from fedlaw_flwr.protocol.exchange import Ask, Outcome, run_exchange
from fedlaw_flwr.protocol.retry import retried
from fedlaw_flwr.protocol.roster import Roster
from fedlaw_flwr.protocol.round import RoundExchanges

OWN_KEY = "ledger.key"
"""The file of a run's own key, in its folder, where the server has none that lasts."""

PART = "ledger"
"""The name under which a checkpoint has where the ledger stands."""

_LONGEST_WAIT = 60.0  # seconds for the last head: a run that is over waits for nobody longer
_log = logging.getLogger("flwr")


class Evidence:
    """The ledger of a run as its strategy sees it; without a folder nothing is written and nothing is sent.

    Args:
        ledger: The ledger, open for writing; None: there is none.
    """

    def __init__(self, ledger: Any = None) -> None:
        self._ledger = ledger
        self._round = ledger.head.round if ledger else 0
        self._reach: tuple[Grid, Roster, float] | None = None

    def __bool__(self) -> bool:
        return self._ledger is not None

    def reach(self, grid: Grid, roster: Roster, timeout: float) -> None:
        """Says through what silos are reached. The silos of a simulation keep nothing: they are sent no heads."""
        if self._ledger is None:
            return
        from flwr.superlink.grid import InMemoryGrid  # brings a database with it

        simulated = getattr(grid, "all_present", False) or isinstance(grid, InMemoryGrid)
        self._reach = None if simulated else (grid, roster, timeout)

    def sent(self) -> dict[str, str]:
        """What a message to a silo has beside its config: the last head, if there is one."""
        return {LEDGER_HEAD: self._ledger.head.text()} if self._ledger and self._reach else {}

    def tell(self, event: Event) -> None:
        """Writes down an event that is not a round's own."""
        if self._ledger is None:
            return
        match event:
            case NotAdmitted():
                self._ledger.write("not-admitted", round=event.round, silo=event.silo, reason=event.reason)
            case SitsOut() | Pardoned() | Removed() | Joined():
                told = {name: value for name, value in asdict(event).items() if value is not None}
                self._ledger.write(event.kind, **told)
            case EvaluatedBySilos():
                self._ledger.write("evaluation", round=event.round, metrics=event.metrics, by_silo=event.by_silo)

    def tell_round(self, exchanges: RoundExchanges, event: RoundEnded, roster: Roster, arrays: ArrayRecord) -> None:
        """Writes a line for each silo asked, and one for the round; signs them.

        Args:
            exchanges: The exchanges of the round.
            event: What the round came to.
            roster: Under which names silos are known by now.
            arrays: The model after the round.
        """
        if self._ledger is None:
            return
        for line in lines_of(exchanges, event, roster):
            self._ledger.write("silo", **line)
        self._ledger.write(
            "round",
            round=event.round,
            skipped=event.skipped,
            reason=event.reason,
            clip=event.clip,
            model=model_digest({name: array.numpy() for name, array in arrays.items()}),
            seconds=event.seconds,
        )
        self._round = event.round
        self._ledger.seal(event.round)

    def state(self) -> State:
        """What `evidence_of` needs to go on with the ledger after this round; nothing where there is none."""
        return State({} if self._ledger is None else self._ledger.state())

    def restore(self, state: State) -> None:
        """Nothing: `evidence_of` has opened the ledger where the checkpoint left it."""

    def end(self, status: str, reason: str | None = None, is_sent: bool = True) -> None:
        """Writes how the run ended, and sends the last head to every silo online: no round comes that would bring it.

        A client without an answer to a query raises an error, and nothing comes of it.

        Args:
            status: "completed" or "failed".
            reason: Why it failed.
            is_sent: Whether the head is sent. Default: yes.
        """
        if self._ledger is None:
            return
        self._ledger.write("end", status=status, reason=reason)
        self._ledger.seal(self._round, last=True)
        if self._reach is None or not is_sent:
            return
        grid, roster, timeout = self._reach
        wait = min(timeout, _LONGEST_WAIT)
        config = {"server-round": self._round, "exchange": 0, **self.sent()}
        try:
            asks = [Ask(silo, HEAD_ALONE) for silo in retried(lambda: roster.refresh(grid), wait)]
            run_exchange(grid, asks, ArrayRecord(), config, lambda ask, content: None, wait, MessageType.QUERY)
        except Exception as error:  # the ledger is on disk, and silos have the head before it
            _log.warning("The last head of the ledger was not sent: %s: %s", type(error).__name__, error)


@contextmanager
def evidence_of(folder: str | Path | None, server_key: str, store: Checkpoints | None = None) -> Iterator[Evidence]:
    """The ledger of a run in its folder; it notes how the run ended, whatever ended it.

    Args:
        folder: The run folder; None or "": no ledger is kept.
        server_key: As in `ServerKey.of`; where the server has no key, one of the run's own in its folder is taken.
        store: The checkpoints of the run; where it was resumed from one, the ledger goes on from there. Default: None.

    Raises:
        UserError: If the ledger or the key is not as it must be.
    """
    if folder is None or not str(folder):
        yield Evidence()
        return
    from fedlaw_flwr.ledger.keys import ServerKey
    from fedlaw_flwr.ledger.writer import Ledger

    path = Path(folder).expanduser()
    key = ServerKey.of(server_key) or ServerKey.load(path / OWN_KEY)
    file = path / LEDGER
    resumed = store.resumed.state.values.get(PART) if store and store.resumed else None
    if resumed:
        ledger = Ledger.restore(file, key, resumed, store.abandoned if store else 0)
    elif store and store.reopened and file.exists():  # the server ended before the first checkpoint
        ledger = Ledger.restore_whole(file, key, store.abandoned)
    else:
        ledger = Ledger.create(file, key)
    evidence = Evidence(ledger)
    try:
        try:
            yield evidence
        except BaseException as error:
            try:
                evidence.end("failed", f"{type(error).__name__}: {error}", isinstance(error, Exception))
            except OSError as unwritten:  # a full disk: what ended the run is what a person should read
                _log.error("How the run ended could not be written into the ledger: %s", unwritten)
            raise
        evidence.end("completed")
    finally:
        ledger.close()


def lines_of(exchanges: RoundExchanges, event: RoundEnded, roster: Roster) -> Iterator[dict[str, Any]]:
    """What the ledger says of each silo asked in a round, in the roster's order.

    The verdict is "rejected" or "silent" in exchange 1; "unscored", without a usable reply to the trial model in a
    round that learned weights; "weight" or "no weight"; "kept" or "left out" by a rule that selects; "skipped" where
    the round kept the model; else "used".
    """
    rows = {silo.node_id: row for row, silo in enumerate(exchanges.replies.silos)} if event.silos else {}
    scored = {silo: place for place, silo in enumerate(event.scored or ())}
    reviews = {silo.node_id: reason for silo, reason in exchanges.unreviewed.items()}
    parts = [_Part.of(outcome, number) for number, outcome in enumerate(exchanges.outcomes, start=1)]
    known = {node_id for part in parts for node_id in part.asked}
    for silo in roster.ordered(roster.silo(node_id) for node_id in known):
        node_id = silo.node_id
        missing = parts[0].missing.get(node_id, ("", ""))[0]
        reasons = [f"exchange {part.exchange}: {part.missing[node_id][1]}" for part in parts if node_id in part.missing]
        row = rows.get(node_id)
        yield {
            "round": event.round,
            "silo": silo.name,
            "verdict": missing or _verdict(event, silo.name, row),
            "reason": "; ".join(reasons) or None,
            "no_review": reviews.get(node_id),
            "arrived": [part.arrived[node_id] for part in parts if node_id in part.arrived],
            **({} if row is None or missing else _numbers(event, row, scored.get(silo.name))),
        }


@dataclass(frozen=True)
class _Part:
    """One exchange by node id: who was asked, whose reply is missing and why, and what arrived."""

    exchange: int
    asked: frozenset[int]
    missing: Mapping[int, tuple[str, str]]
    arrived: Mapping[int, dict[str, Any]]

    @classmethod
    def of(cls, outcome: Outcome, exchange: int) -> "_Part":
        missing = {silo.node_id: ("rejected", reason) for silo, reason in outcome.rejected.items()}
        missing |= {silo.node_id: ("silent", reason) for silo, reason in outcome.silent.items()}
        arrived = {
            silo.node_id: {
                "exchange": exchange,
                "bytes": one.bytes,
                "digest": one.digest or None,
                "seconds": round(one.seconds, 3),
            }
            for silo, one in outcome.arrived.items()
        }
        return cls(exchange, frozenset(missing) | {silo.node_id for silo in outcome.answered}, missing, arrived)


def _numbers(event: RoundEnded, row: int, place: int | None) -> dict[str, Any]:
    """What a round's event says of one silo: row `row` of the silos there, place `place` of those scored."""
    found = {
        "loss": _at(event.losses, row),
        "balanced_loss": _at(event.balanced_losses, row),
        "norm": _at(event.norms, row),
        "clipped": event.norms[row] > event.clip if event.clip is not None and event.norms else None,
        "approval": _at(event.approval, row),
        "weight": _at(event.weights, row),
    }
    if place is not None:
        found |= {
            "trial_loss": _at(event.trial_losses, place),
            "loss_raised": event.silos[row] in (event.losses_raised or ()) or None,
            "alignment": _at(event.alignment, place),
            "score": _at(event.scores, place),
        }
    return found


def _verdict(event: RoundEnded, name: str, row: int | None) -> str:
    if event.skipped:
        return "skipped"
    if name in (event.unscored or ()):
        return "unscored"
    if event.weights is not None and row is not None:
        return "weight" if event.weights[row] > EXCLUDED_AT else "no weight"
    if event.kept is not None:
        return "kept" if name in event.kept else "left out"
    return "used"


def _at(values: Any, row: int) -> Any:
    return values[row] if values else None
