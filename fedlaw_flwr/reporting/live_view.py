"""A run as it goes, on a terminal: progress, curves, the weight of every silo, exchanges and what happened last."""

from collections import deque
from collections.abc import Sequence
from math import isfinite

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedlaw_flwr.events.record import EXCLUDED_AT, by_number
from fedlaw_flwr.events.types import Evaluated, EvaluatedBySilos, Event, NoReply, ReplyRejected, RoundEnded, RunEnded
from fedlaw_flwr.reporting.page import readable_bytes

_BLOCKS = "▁▂▃▄▅▆▇█"
_BAR = 12
_POINTS = 40
# As many silos fit on a common terminal in three columns, with room for the rest.
_SILOS = 45
_SAYINGS = 6
# The time left is told from the last rounds: those with two exchanges take longer than those after them.
_RECENT = 5


class LiveView:
    """What a terminal shows of a run; events go in by `take`, rich draws it."""

    def __init__(self, title: str, num_rounds: int) -> None:
        self._title, self._rounds = title, num_rounds
        self._done = 0
        self._phase = "waiting for the first round"
        self._curves: dict[str, list[float]] = {}
        self._weights: dict[str, float] = {}
        self._missed: dict[str, str] = {}
        self._missed_next: dict[str, str] = {}
        self._seconds: deque[float] = deque(maxlen=_RECENT)
        self._last: RoundEnded | None = None
        self._moved, self._spent = 0, 0.0
        self._sayings: deque[str] = deque(maxlen=_SAYINGS)
        self._end: RunEnded | None = None

    def take(self, event: Event) -> None:
        """Takes the next event of the run."""
        match event:
            case RoundEnded():
                self._round(event)
            case ReplyRejected():
                self._missed_next[event.silo] = "rejected"
            case NoReply():
                self._missed_next[event.silo] = "silent"
            case Evaluated() | EvaluatedBySilos():
                for name in ("accuracy", "loss"):
                    if name in event.metrics:
                        self._curves.setdefault(name, []).append(float(event.metrics[name]))
            case RunEnded():
                self._end = event

    def say(self, text: str) -> None:
        """Adds a line to what happened last; markup is rich's."""
        self._sayings.append(text.strip())

    def _round(self, event: RoundEnded) -> None:
        self._done, self._last = event.round, event
        self._seconds.append(event.seconds)
        self._moved += event.bytes_down + event.bytes_up
        self._spent += event.seconds
        self._missed, self._missed_next = self._missed_next, {}
        if event.skipped:
            self._phase = "the last round was skipped"
            return
        phases = {"learning": "weights are learned", "frozen": "weights are frozen", "rule": "no weights are learned"}
        self._phase = phases.get(event.phase or "", "")
        if event.weights:
            self._weights = event.weight_of
        elif event.kept is not None:
            self._weights = dict.fromkeys(event.silos, 0.0) | dict.fromkeys(event.kept, 1 / max(1, len(event.kept)))
        else:
            self._weights = {}

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [self._progress(), self._measured()]
        if self._weights:
            parts.append(Panel(self._silos(), title=self._silos_title(), title_align="left", border_style="dim"))
        if self._last is not None:
            parts.append(self._cost())
        if self._sayings:
            lines = Text("\n").join(Text.from_markup(line, overflow="ellipsis") for line in self._sayings)
            parts.append(Panel(lines, title="last events", title_align="left", border_style="dim"))
        return Group(*parts)

    def _progress(self) -> RenderableType:
        line = Table.grid(padding=(0, 2))
        line.add_row(
            Text(self._title, style="bold"),
            ProgressBar(total=max(1, self._rounds), completed=self._done, width=30),
            Text(f"round {self._done}/{self._rounds}"),
            Text(self._left()),
            Text(self._phase, style="dim"),
        )
        return line

    def _left(self) -> str:
        if self._end is not None:
            return self._end.status
        if not self._seconds:
            return ""
        left = (self._rounds - self._done) * sum(self._seconds) / len(self._seconds)
        return f"about {duration(left)} left"

    def _measured(self) -> RenderableType:
        line = Table.grid(padding=(0, 2))
        for name, values in self._curves.items():
            last = f"{100 * values[-1]:.1f} %" if name == "accuracy" else f"{values[-1]:.3f}"
            line.add_row(Text(name), Text(sparkline(values, _POINTS), style="cyan"), Text(last, style="bold"))
        return line

    def _silos_title(self) -> str:
        without = sum(weight <= EXCLUDED_AT for weight in self._weights.values())
        return f"weight of {len(self._weights)} silos, {without} without"

    def _silos(self) -> RenderableType:
        """A bar a silo; where there are too many, those that are excluded or missing first."""
        names = sorted({*self._weights, *self._missed}, key=by_number)
        shown = names
        if len(names) > _SILOS:
            shown = sorted(names, key=lambda name: (self._weights.get(name, 0.0) > EXCLUDED_AT, by_number(name)))[
                :_SILOS
            ]
        most = max([*self._weights.values(), 1e-12])
        cells = [self._bar(name, most) for name in shown]
        more = [Text(f"and {len(names) - len(shown)} more that count", style="dim")] if len(names) > len(shown) else []
        return Columns([*cells, *more], padding=(0, 3), column_first=True)

    def _bar(self, name: str, most: float) -> Text:
        label = "".join(letter if letter.isprintable() else "?" for letter in name)
        label = f"{label[:13]}…" if len(label) > 14 else label
        missed, weight = self._missed.get(name), self._weights.get(name)
        text = Text(f"{label:<14} ")
        if missed:
            return text.append(f"{missed:<{_BAR}} ", style="magenta").append("  !  ", style="magenta")
        if weight is None or weight <= EXCLUDED_AT:
            return text.append(f"{'no weight':<{_BAR}} ", style="yellow").append("  ✕  ", style="yellow")
        filled = max(1, round(_BAR * weight / most))
        return (
            text.append("█" * filled, style="blue").append("░" * (_BAR - filled), style="dim").append(f" {weight:.3f}")
        )

    def _cost(self) -> RenderableType:
        assert self._last is not None
        line = Table.grid(padding=(0, 2))
        exchanges = [
            f"exchange {number}: {one.seconds:.1f} s, {readable_bytes(one.bytes_down + one.bytes_up)}"
            for number, one in enumerate(self._last.exchanges, start=1)
        ]
        total = f"so far: {duration(self._spent)}, {readable_bytes(self._moved)}"
        line.add_row(*(Text(one, style="dim") for one in (*exchanges, total)))
        return line


def sparkline(values: Sequence[float], width: int) -> str:
    """The values as a line of blocks: the last `width` of them. A value that is no finite number is a dot.

    The lowest value is the lowest block, the highest the highest; equal values are all in the middle.
    """
    shown = list(values[-width:])
    finite = [value for value in shown if isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)

    def block(value: float) -> str:
        if not isfinite(value):
            return "·"
        place = 0.5 if high == low else (value - low) / (high - low)
        return _BLOCKS[round(place * (len(_BLOCKS) - 1))]

    return "".join(block(value) for value in shown)


def duration(seconds: float) -> str:
    """7 s, 3:05 min or 2:10 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60}:{whole % 60:02d} min" if whole < 3600 else f"{whole // 3600}:{whole // 60 % 60:02d} h"
