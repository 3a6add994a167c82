"""What a person sees while runs go on and when they are over: a progress line, the unmaskings, one table."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fedlaw_flwr.runs.verdict import EXCLUDED_AT, MEASURED, Verdict, mass_on, weights_of
from fedlaw_flwr.tasks import OWN


class LiveRun:
    """Follows one run's events on the console; a context manager around the run."""

    def __init__(self, console: Console, title: str, num_rounds: int) -> None:
        self._console, self._title, self._rounds = console, title, num_rounds
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task(title, total=num_rounds, figures="starting Flower …")
        self._attackers: frozenset[str] = frozenset()
        self._known = True  # who attacks, and so who is honest
        self._weights: dict[str, float] = {}
        self._mass: float | None = None
        self._seconds = 0.0

    def __enter__(self) -> "LiveRun":
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self._progress.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        """Takes one event of the run's folder."""
        kind = event["kind"]
        if kind == "run":
            self._attackers = frozenset(event["attackers"])
            self._known = event["settings"].get("task") != OWN
        elif kind == "warning":
            self._say(f"[yellow]{escape(event['reason'])}")
        elif kind in ("quarantine", "silent"):
            what = "set aside for the round" if kind == "quarantine" else "silent"
            self._say(f"  round {event['round']}: {escape(event['silo'])} {what}: {escape(event['reason'])}")
        elif kind == "round":
            self._round(event)
        elif kind in ("turned-away", "unseen"):
            what = "takes no part" if kind == "turned-away" else "takes part unseen"
            self._say(f"  round {event['round']}: {escape(event['silo'])} {what}: {escape(event['reason'])}")
        elif kind in MEASURED:
            self._evaluated(event)

    def _round(self, event: Mapping[str, Any]) -> None:
        self._seconds = event["seconds"]
        if event["held"]:
            self._say(f"  round {event['round']}: the model is held: {escape(str(event.get('reason', '')))}")
        weights = weights_of(event)
        for silo, weight in weights.items():
            before = self._weights.get(silo)
            if weight <= EXCLUDED_AT and (before is None or before > EXCLUDED_AT):
                who = "attacker" if silo in self._attackers else "[yellow]honest[/]"
                told = f" ({who})" if self._known else ""
                self._say(f"  round {event['round']}: [red]{escape(silo)}[/] gets no weight{told}")
            elif before is not None and before <= EXCLUDED_AT < weight:
                self._say(f"  round {event['round']}: [green]{escape(silo)}[/] gets weight again")
        self._weights = weights or self._weights
        self._mass = mass_on(self._attackers, weights) if weights and self._known else self._mass

    def _evaluated(self, event: Mapping[str, Any]) -> None:
        figures = [f"accuracy {100 * event['accuracy']:5.1f} %"] if "accuracy" in event else []
        if self._mass is not None and event["round"]:
            figures.append(f"weight on attackers {100 * self._mass:4.1f} %")
        if event["round"]:
            figures.append(f"{self._seconds:.1f} s")
        self._progress.update(self._task, completed=event["round"], figures="  ".join(figures))
        if not self._console.is_terminal:
            self._say(f"{self._title}  round {event['round']:>3}/{self._rounds}  {'  '.join(figures)}")

    def _say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False)


def verdict_table(verdicts: Sequence[Verdict], title: str) -> Table:
    """All runs side by side."""
    table = Table(title=title, title_justify="left")
    for heading in ("", *(v.strategy for v in verdicts)):
        table.add_column(heading, justify="left" if not heading else "right")
    backdoored = any(v.attack_success is not None for v in verdicts)
    rows = [
        (f"accuracy {verdicts[0].measured}" if verdicts else "accuracy", [_percent(v.accuracy) for v in verdicts]),
        *([("backdoor's success", [_percent(v.attack_success) for v in verdicts])] if backdoored else []),
        ("attackers caught", [_of(v.caught, v.attackers) for v in verdicts]),
        ("honest silos wrongly excluded", [_of(v.wronged, v.honest) for v in verdicts]),
        ("weight on attackers at the end", [_percent(v.mass_on_attackers) for v in verdicts]),
        ("rounds (model held)", [f"{v.rounds} ({v.held})" for v in verdicts]),
        ("bytes to the silos", [_bytes(v.bytes_down) for v in verdicts]),
        ("bytes from the silos", [_bytes(v.bytes_up) for v in verdicts]),
        ("seconds in rounds", [f"{v.seconds:.1f}" for v in verdicts]),
    ]
    for name, values in rows:
        table.add_row(name, *values)
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _of(count: int | None, total: int) -> str:
    return "-" if count is None else f"{count} of {total}"


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
