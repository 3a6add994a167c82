"""What a person sees while runs go on and when they are over: a live view or plain lines, and one table."""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from fedlaw_flwr.attacks.options import MISLABELLED
from fedlaw_flwr.events.record import EXCLUDED_AT, knows_honest, weight_on
from fedlaw_flwr.events.types import (
    Evaluated,
    EvaluatedBySilos,
    Event,
    Joined,
    NoReply,
    NoReview,
    NotAdmitted,
    Pardoned,
    Removed,
    ReplyRejected,
    RoundEnded,
    RunEnded,
    RunResumed,
    RunStarted,
    SitsOut,
    TaskNotStated,
    Warned,
)
from fedlaw_flwr.events.verdict import Verdict
from fedlaw_flwr.reporting.live_view import LiveView


class LiveRun:
    """Follows one run's events on the console; a context manager around the run.

    A terminal shows a live view. Anything else gets plain lines: what happened, and one line a measurement.
    """

    def __init__(self, console: Console, title: str, num_rounds: int) -> None:
        self._console, self._title, self._rounds = console, title, num_rounds
        self._view = LiveView(title, num_rounds)
        self._live = Live(self._view, console=console, refresh_per_second=4) if console.is_terminal else None
        self._attackers: Mapping[str, str] = {}
        self._known = True  # who attacks, and so who is honest
        self._weights: dict[str, float] = {}
        self._on_attackers: float | None = None
        self._seconds = 0.0
        self._unreviewed: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> "LiveRun":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *ended: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, event: Event) -> None:
        """Takes one event of the run's folder."""
        self._view.take(event)
        match event:
            case RunStarted():
                self._attackers = event.attackers
                self._known = knows_honest(event.settings)
            case Warned():
                self._say(f"[yellow]{escape(event.reason)}")
            case RunResumed() | SitsOut() | Removed():
                self._say(f"[yellow]{escape(event.sentence)}")
            case Pardoned() | Joined():
                self._say(f"  {escape(event.sentence)}")
            case ReplyRejected():
                self._say(f"  round {event.round}: reply of {escape(event.silo)} rejected: {escape(event.reason)}")
            case NoReply():
                self._say(f"  round {event.round}: {escape(event.silo)} silent: {escape(event.reason)}")
            case NoReview():
                self._no_review(event)
            case NotAdmitted():
                self._say(f"  round {event.round}: {escape(event.silo)} takes no part: {escape(event.reason)}")
            case TaskNotStated():
                self._say(f"  round {event.round}: {escape(event.silo)} takes part unchecked: {escape(event.reason)}")
            case RoundEnded():
                self._round(event)
            case Evaluated() | EvaluatedBySilos():
                self._evaluated(event)
            case RunEnded():
                self._ended(event)

    def _no_review(self, event: NoReview) -> None:
        """Says it of each silo and reason once; how often it was, the end says."""
        self._unreviewed[event.silo, event.reason] += 1
        if self._unreviewed[event.silo, event.reason] == 1:
            said = f"{escape(event.silo)} has no voice in peer review: {escape(event.reason)}"
            self._say(f"  round {event.round}: {said}")

    def _ended(self, event: RunEnded) -> None:
        for (silo, reason), rounds in self._unreviewed.items():
            if rounds > 1:
                self._say(f"  {escape(silo)} had no voice in peer review in {rounds} rounds: {escape(reason)}")
        if event.status != "completed":
            self._say(f"[red]the run {event.status}: {escape(event.reason or 'no reason was given')}")

    def _round(self, event: RoundEnded) -> None:
        self._seconds = event.seconds
        if event.skipped:
            self._say(f"  round {event.round} is skipped, the model stays as it is: {escape(event.reason or '')}")
        weights = event.weight_of
        for silo, weight in weights.items():
            before = self._weights.get(silo)
            if weight <= EXCLUDED_AT and (before is None or before > EXCLUDED_AT):
                attack = self._attackers.get(silo)
                who = "[yellow]honest[/]" if attack is None else MISLABELLED if attack == MISLABELLED else "attacker"
                told = f" ({who})" if self._known else ""
                self._say(f"  round {event.round}: [red]{escape(silo)}[/] gets no weight{told}")
            elif before is not None and before <= EXCLUDED_AT < weight:
                self._say(f"  round {event.round}: [green]{escape(silo)}[/] gets weight again")
        self._weights = weights or self._weights
        if weights and self._known:
            self._on_attackers = weight_on(self._attackers, weights)

    def _evaluated(self, event: Evaluated | EvaluatedBySilos) -> None:
        figures = [f"accuracy {100 * event.metrics['accuracy']:5.1f} %"] if "accuracy" in event.metrics else []
        if self._on_attackers is not None and event.round:
            figures.append(f"weight on attackers {100 * self._on_attackers:4.1f} %")
        if event.round:
            figures.append(f"{self._seconds:.1f} s")
        if self._live is None:
            self._say(f"{self._title}  round {event.round:>3}/{self._rounds}  {'  '.join(figures)}")

    def _say(self, text: str) -> None:
        text = "".join(letter if letter.isprintable() else "?" for letter in text)  # reasons come from silos
        if self._live is None:
            self._console.print(text, highlight=False)
        else:
            self._view.say(text)


def verdict_table(verdicts: Sequence[Verdict], title: str, labels: Sequence[str] | None = None) -> Table:
    """All runs side by side, each under its label or, without labels, under its strategy."""
    table = Table(title=title, title_justify="left")
    for heading in ("", *(labels or [v.strategy for v in verdicts])):
        table.add_column(escape(heading), justify="left" if not heading else "right")
    for name, values in verdict_rows(verdicts):
        table.add_row(name, *values)
    return table


def verdict_rows(verdicts: Sequence[Verdict]) -> list[tuple[str, list[str]]]:
    """The figures of runs, a row each: its name, and the value of every run."""
    backdoored = any(v.attack_success is not None for v in verdicts)
    return [
        (f"accuracy {verdicts[0].measured}" if verdicts else "accuracy", [_percent(v.accuracy) for v in verdicts]),
        *([("backdoor's success", [_percent(v.attack_success) for v in verdicts])] if backdoored else []),
        ("attackers caught", [_of(v.caught, v.attackers) for v in verdicts]),
        ("honest silos wrongly excluded", [_of(v.wrongly_excluded, v.honest) for v in verdicts]),
        ("weight on attackers at the end", [_percent(v.weight_on_attackers) for v in verdicts]),
        ("rounds (skipped)", [f"{v.rounds} ({v.skipped_rounds})" for v in verdicts]),
        ("bytes to the silos", [_bytes(v.bytes_down) for v in verdicts]),
        ("bytes from the silos", [_bytes(v.bytes_up) for v in verdicts]),
        ("seconds in rounds", [f"{v.seconds:.1f}" for v in verdicts]),
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _of(count: int | None, total: int) -> str:
    return "-" if count is None else f"{count} of {total}"


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
