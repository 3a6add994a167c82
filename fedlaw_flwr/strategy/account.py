"""The account of a run in anybody's app: a run folder with events, settings, model and report, and the verdict."""

import html
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Result

from fedlaw_flwr.checkpoints.resuming import holds_checkpoints, reopen
from fedlaw_flwr.checkpoints.store import Checkpoints
from fedlaw_flwr.core.errors import AlreadyThere, InputError
from fedlaw_flwr.core.extras import what_to_install
from fedlaw_flwr.core.setting import settings_of
from fedlaw_flwr.events.folder import EVENTS, SETTINGS, RunFolder, read_events, write_settings
from fedlaw_flwr.events.record import OWN_TASK, Run
from fedlaw_flwr.events.types import Event, ReplyRejected, RunStarted
from fedlaw_flwr.ledger.keys import ServerKey

_log = logging.getLogger("flwr")
_NAMES = 8  # more than this in a line are no longer read


@dataclass(frozen=True)
class SiloVerdict:
    """What became of one silo.

    Attributes:
        silo: Its name.
        weight: Its weight in the deciding round; None if it gave no usable reply, or if the rule gives no weights.
        outcome: "weight", "no weight", "rejected" or "absent" in the deciding round; "" where the rule says nothing.
        excluded_since: The first round of the unbroken stretch in which it was excluded; None if it is not.
        rejected: How many of its replies the gate rejected.
        silent: How often it gave no reply.
        reason: Why its last reply that was rejected, or did not come, is missing.
    """

    silo: str
    weight: float | None
    outcome: str
    excluded_since: int | None
    rejected: int
    silent: int
    reason: str


@dataclass(frozen=True)
class VerdictTable(Sequence[SiloVerdict]):
    """The verdict on every silo; prints as a table, in a notebook too. `pandas.DataFrame(table)` takes it.

    Attributes:
        rows: A row for each silo, in order of its number.
        round: The deciding round, the last that moved the model; None where none did.
    """

    rows: tuple[SiloVerdict, ...]
    round: int | None

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        table = [_HEAD, *self._cells()]
        widths = [max(len(row[column]) for row in table) for column in range(len(_HEAD))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in _HEAD)
        rows = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self._cells()]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        told = "no round moved the model" if self.round is None else f"as of round {self.round}"
        return f"<table><caption>Silos, {told}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                row.silo,
                "-" if row.weight is None else f"{row.weight:.4f}",
                row.outcome + (f" since round {row.excluded_since}" if row.excluded_since else ""),
                str(row.rejected),
                str(row.silent),
                row.reason,
            )
            for row in self.rows
        ]


_HEAD = ("silo", "weight", "outcome", "rejected", "silent", "reason")


def verdict_on(run: Run) -> VerdictTable:
    """The verdict on every silo of a run."""
    rows = []
    for silo in run.silos:
        missed = [event for event in run.missing if event.silo == silo]
        rejected = sum(isinstance(event, ReplyRejected) for event in missed)
        since = run.excluded_since(silo, run.deciding.round) if run.deciding and silo in run.excluded else None
        rows.append(
            SiloVerdict(
                silo=silo,
                weight=run.weight(silo),
                outcome=_outcome(run, silo),
                excluded_since=since,
                rejected=rejected,
                silent=len(missed) - rejected,
                reason=missed[-1].reason if missed else "",
            )
        )
    return VerdictTable(tuple(rows), run.deciding.round if run.deciding else None)


def _outcome(run: Run, silo: str) -> str:
    if run.deciding is None or not run.is_judged:
        return ""
    if silo in run.absent:
        return "absent"
    if silo not in run.excluded:
        return "weight" if run.final_weights else "kept"
    return "no weight" if silo in run.deciding.silos else "rejected"


@dataclass
class RunResult(Result):
    """Flower's Result, with the verdict on the silos; it shows both in a notebook.

    Attributes:
        verdict: The verdict on every silo.
    """

    verdict: VerdictTable = field(default_factory=lambda: VerdictTable((), None))

    def __repr__(self) -> str:
        return f"{super().__repr__()}\nSilos:\n{self.verdict}\n"

    def _repr_html_(self) -> str:
        """The verdict, and the last metrics, for a notebook."""
        measured = self.evaluate_metrics_serverapp or self.evaluate_metrics_clientapp
        last = dict(measured[max(measured)]) if measured else {}
        numbers = ", ".join(
            f"{html.escape(str(name))} {value:.4g}" for name, value in last.items() if isinstance(value, int | float)
        )
        told = f"<p>Round {max(measured)}: {numbers}</p>" if numbers else ""
        return f"{told}{self.verdict._repr_html_()}"


@dataclass
class _OwnApp:
    """The settings of a run in somebody's own app, as its folder needs them."""

    run_dir: str
    strategy: str
    settings: Mapping[str, Any]
    task: str = OWN_TASK
    attack: str = "none"

    def as_config(self) -> dict[str, Any]:
        """Every setting by its name in files."""
        return dict(self.settings)


class Account:
    """Keeps the events of a run and, where it has a folder, writes it."""

    def __init__(
        self,
        folder: RunFolder | None = None,
        settings: Mapping[str, Any] | None = None,
        store: Checkpoints | None = None,
        earlier: Iterable[Event] = (),
    ) -> None:
        self.events: list[Event] = list(earlier)
        self.store = store
        self._settings = dict(settings or {})
        self._folder = folder

    @property
    def run(self) -> Run:
        """The run as far as its events tell it."""
        return Run.of(self.events, self._folder.path.name if self._folder else "")

    def begin(self, n: int) -> None:
        """Writes the settings, now that it is known how many silos there are."""
        self._settings["num-silos"] = n
        if self._folder is not None:
            write_settings(self._folder.path, self._settings)
        self.write(RunStarted(settings=self._settings))

    def write(self, event: Event) -> None:
        """Takes an event."""
        self.events.append(event)
        if self._folder is not None:
            self._folder.write(event)

    def save(self, arrays: ArrayRecord) -> None:
        """Writes the final model."""
        if self._folder is not None:
            self._folder.save_model({key: array.numpy() for key, array in arrays.items()})

    def conclude(self) -> None:
        """Logs one line: who got no weight, and where the report is. Writes the report if its libraries are there."""
        run = self.run
        excluded = [silo for silo in run.silos if silo in run.excluded]
        if run.is_judged:
            more = f" and {len(excluded) - _NAMES} more" if len(excluded) > _NAMES else ""
            said = f"No weight at the end: {', '.join(excluded[:_NAMES]) or 'nobody'}{more}"
        else:
            said = "The rule gives no weights by silo"
        _log.info("%s%s", said, f". {self._report()}" if self._folder is not None else "")

    def _report(self) -> str:
        assert self._folder is not None
        try:  # the report reads what strategies write, and so lies above them; here it is a plug-in, by its name
            write = import_module("fedlaw_flwr.reporting.report").write_report
            return f"Report: {write(self._folder.path)}"
        except ModuleNotFoundError as error:
            return f"Run folder: {self._folder.path}; no report: {what_to_install(error)}"


@contextmanager
def account_of(
    strategy: Any, told: Mapping[str, Any], train_config: Mapping[str, Any], resume: bool, resume_changed: bool
) -> Iterator[Account]:
    """The account of a run by this strategy; notes in its folder how the run ended, whatever ended it.

    Args:
        strategy: The strategy, whose settings are written down; `run_dir` and `checkpoint` say where.
        told: What `start` was told, by name.
        train_config: What goes to the silos; a resumed run's must be the same.
        resume: Whether a run that is in the folder is gone on with.
        resume_changed: Whether settings that differ from that run's are meant to.

    Raises:
        FileExistsError: If the folder already holds a run, and it is not to be resumed: nothing is overwritten.
        InputError: If the run cannot be resumed.
    """
    known = settings_of(type(strategy))
    settings: dict[str, Any] = {one.wire_name: getattr(strategy, name) for name, one in known.items()}
    name = getattr(strategy, "rule", "fedlaw")
    settings |= {"strategy": name, "task": OWN_TASK, **told}
    store = strategy.checkpoint
    if isinstance(store, Checkpoints):  # whoever made it writes the run folder
        yield Account(settings=settings, store=store, earlier=_earlier(store))
        return
    place = _place(strategy.run_dir, store, resume)
    if place is None:
        yield Account(settings=settings)
        return
    keep = strategy.keep_checkpoints if store else 0
    key = ServerKey.of(strategy.server_key) if keep else None
    compared = {**settings, "train-config": {name: str(value) for name, value in sorted(train_config.items())}}
    if not strategy.num_silos:  # as many as there were, which the checkpoint knows
        del compared["num-silos"]
    if resume and (place / SETTINGS).exists():
        folder, kept = reopen(place, compared, keep, key, resume_changed)
    else:
        if (place / EVENTS).exists():
            more = "; resume=True goes on with it" if holds_checkpoints(place) else ""
            named = "checkpoint" if store else "run_dir"
            raise AlreadyThere(f"{named}={str(place)!r} already holds a run; name another folder or remove it{more}")
        folder = RunFolder.create(_OwnApp(str(place), name, settings))
        kept = Checkpoints(folder, compared, keep, key)
    with folder:
        account = Account(folder, settings, kept if keep else None, _earlier(kept))
        yield account
    account.conclude()


def _place(run_dir: str | Path | None, checkpoint: str | Path | None, resume: bool) -> Path | None:
    """The run folder, which both may name; None where neither does."""
    named = [Path(one).expanduser() for one in (run_dir, checkpoint) if one is not None and str(one)]
    if len({path.resolve() for path in named}) > 1:
        raise InputError(
            f"run_dir={str(run_dir)!r} and checkpoint={str(checkpoint)!r}: a run has one folder; name it once"
        )
    if resume and not checkpoint:
        raise InputError("resume=True: checkpoint must name the folder of the run that is gone on with")
    return named[0] if named else None


def _earlier(store: Checkpoints) -> list[Event]:
    """The events of a run before it was resumed, and the one that says that it was."""
    return list(read_events(store.folder.path)) if store.resumed else []
