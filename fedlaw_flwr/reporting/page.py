"""The report of a run as a page: what it shows, and one HTML file that needs nothing from anywhere to show it."""

import base64
import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from fedlaw_flwr.reporting.figures import report_extra

_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
# Events longer than this stay in events.jsonl beside the page, and the page links to them.
_EVENTS_IN_PAGE = 1_000_000


def render(page: "Page", data: Mapping[str, Any], events: bytes = b"", refresh: int | None = None) -> str:
    """The page as one HTML file.

    Silos' names and reasons come from anyone. Text is escaped; the numbers of the charts are packed as base64, of
    which no HTML can be made; and the page's policy lets the browser run these scripts alone and load nothing.

    Args:
        page: What the page says.
        data: The numbers of the charts (`chart_data.chart_data`).
        events: The run's events.jsonl, for the page to hand out.
        refresh: Seconds after which a browser loads the page again, for a run that goes on.
    """
    with report_extra():
        import jinja2
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["bytes"] = readable_bytes
    environment.finalize = lambda value: "" if value is None else value
    scripts = [_asset("echarts.min.js"), _asset("report.js")]
    return environment.from_string(_asset("report.html.jinja")).render(
        page=page,
        css=_asset("report.css"),
        scripts=scripts,
        policy=_policy(scripts),
        data=_packed(json.dumps(data, separators=(",", ":"), allow_nan=False).encode()),
        events=_packed(events) if 0 < len(events) <= _EVENTS_IN_PAGE else "",
        refresh=refresh,
    )


@cache
def _asset(name: str) -> str:
    return (files("fedlaw_flwr.reporting") / "assets" / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """The content security policy: nothing is loaded, and no script runs but these."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()


def readable_bytes(count: float | None) -> str:
    """12.3 MB for 12300000; nothing for None."""
    if count is None:
        return ""
    unit, size = next(((unit, size) for unit, size in _UNITS if count >= size), ("B", 1))
    return f"{count:.0f} B" if size == 1 else f"{count / size:.1f} {unit}"


@dataclass(frozen=True)
class SiloRow:
    """One silo over a whole run.

    Attributes:
        anchor: What a link to it ends with, as `silo-7` in report.html#silo-7.
        attack: Its attack; None if it is not known to attack.
        outcome: What became of it, in two words; empty if its updates counted.
        mood: "in", it counted; "out", excluded; "bad", a loss; "absent".
        sign: The same as a sign, for readers who do not see the colour.
        is_loss: Whether it is an attacker that got through or an honest silo that was excluded.
        weight: Its weight at the end; None if it was not there.
        short: What became of it, one plain sentence.
        why: The same with every number; empty where there is nothing to explain.
        changes: The rounds in which its part changed, and how.
    """

    name: str
    anchor: str
    attack: str | None
    outcome: str
    mood: str
    sign: str
    is_loss: bool
    weight: float | None
    first_without: int | None
    rounds_without: int
    rejected: int
    silent: int
    clipped: int
    raised: int
    median_loss: float | None
    short: str
    why: str
    changes: Sequence[tuple[int, str]]


@dataclass(frozen=True)
class Column:
    """A column of the table of silos: its title, and what it says of a row."""

    title: str
    of: Callable[[SiloRow], str]
    is_number: bool = True


COLUMNS = (
    Column("Outcome", lambda row: row.outcome, is_number=False),
    Column("Attack", lambda row: row.attack or "", is_number=False),
    Column("Final weight", lambda row: "" if row.weight is None else f"{row.weight:.4f}"),
    Column("First round without", lambda row: "" if row.first_without is None else str(row.first_without)),
    Column("Rounds without", lambda row: str(row.rounds_without or "")),
    Column("Rejected", lambda row: str(row.rejected or "")),
    Column("Silent", lambda row: str(row.silent or "")),
    Column("Clipped", lambda row: str(row.clipped or "")),
    Column("Loss raised", lambda row: str(row.raised or "")),
    Column("Median loss", lambda row: "" if row.median_loss is None else f"{row.median_loss:.3f}"),
)
"""The columns of the table of silos, beside its name and what happened."""


@dataclass(frozen=True)
class Group:
    """Silos of one verdict, under its name; folded where there are too many to show at once."""

    title: str
    silos: Sequence[SiloRow]
    folded: bool


@dataclass(frozen=True)
class Tile:
    """One of the figures at the top. The mood is "good", "bad" or nothing."""

    label: str
    value: str
    under: str
    mood: str = ""


@dataclass(frozen=True)
class Reason:
    """One sentence that is true of several silos, and their names."""

    sentence: str
    silos: Sequence[str]


@dataclass(frozen=True)
class GateRow:
    """The replies of one silo that were rejected, or did not come, for one reason."""

    rounds: str
    times: int
    exchange: int
    silo: str
    what: str
    reason: str


@dataclass(frozen=True)
class Cost:
    """Bytes and seconds of one kind of exchange over a run, of the server's own work (None: no replies), or of all."""

    name: str
    times: int
    seconds: float
    answered: int | None = None
    rejected: int | None = None
    silent: int | None = None
    bytes_down: int | None = None
    bytes_up: int | None = None
    is_total: bool = False


@dataclass(frozen=True)
class Detection:
    """Precision, recall, F1 and accuracy of "excluded means attacker" in the deciding round."""

    round: int
    figures: Sequence[float]


@dataclass(frozen=True)
class SideBySide:
    """Several runs in columns: their figures, and the settings in which they differ."""

    labels: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    differ: Sequence[tuple[str, Sequence[Any]]]


@dataclass(frozen=True)
class Repeat:
    """How to do the run again: a sentence and, where one command does it, the command."""

    sentence: str
    command: str


@dataclass(frozen=True)
class Page:
    """All that the report says in words and tables, in its order; the template only formats it."""

    title: str
    run_id: str
    alarm: str
    story: Sequence[str]
    warnings: Sequence[str]
    tiles: Sequence[Tile]
    groups: Sequence[Group]
    measured: str
    legend: str
    attack_known: bool
    has_weights: bool
    has_judged: bool
    excluded_at: float
    detection: Detection | None
    silos: Sequence[SiloRow]
    reasons: Sequence[Reason]
    review: int | None
    notes: Sequence[str]
    served: Sequence[tuple[str, Sequence[str]]]
    served_titles: Sequence[str]
    served_note: str
    classes: Sequence[tuple[str, Sequence[str]]]
    class_titles: Sequence[str]
    classes_note: str
    gate: Sequence[GateRow]
    gate_more: int
    skipped: Sequence[tuple[str, str]]
    costs: Sequence[Cost]
    cost_story: Sequence[str]
    settings: Sequence[tuple[str, Any, Any]]
    repeat: Repeat
    versions: str
    runs: SideBySide | None = field(default=None)

    @property
    def silos_first(self) -> list[SiloRow]:
        """The silos that a reader looks for: excluded, absent, or got through."""
        return [row for row in self.silos if row.mood != "in"]

    @property
    def silos_rest(self) -> list[SiloRow]:
        """The silos that counted."""
        return [row for row in self.silos if row.mood == "in"]

    def columns_of(self, rows: Sequence[SiloRow]) -> list[Column]:
        """The columns that say something of at least one of these rows."""
        return [column for column in COLUMNS if any(column.of(row) for row in rows)]

    @property
    def settings_changed(self) -> list[tuple[str, Any, Any]]:
        """The settings that are not the default, with it."""
        return [row for row in self.settings if row[2] is not None]

    @property
    def settings_same(self) -> list[tuple[str, Any]]:
        """The settings at their default."""
        return [(name, value) for name, value, default in self.settings if default is None]
