"""The curves of an experiment, one file beside its table: a run's accuracy, exchanges and weights, round by round."""

import csv
import gzip
import io
import math
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from fedlaw_flwr.events.record import Run, weight_on
from fedlaw_flwr.events.types import Evaluated
from fedlaw_flwr.studies.table import TableError

FIELDS = ("round", "exchanges", "accuracy", "validation_accuracy", "mass", "caught", "wronged", "weights")
NAMED = 20
"""Up to so many silos, every silo's weight is kept."""

Lines = Sequence[Sequence[str]]
"""A curve as its file has it: a line a round, a cell for each of FIELDS."""

_RUN_FILE = re.compile(r"[0-9a-f]{10}\.csv")  # PlannedRun.name


@dataclass(frozen=True)
class Point:
    """One round.

    Attributes:
        round: The round; 0 is the first model.
        exchanges: How many exchanges there were up to its end.
        accuracy: The model's accuracy on the test split, from 0 to 1; None where it was not measured.
        validation_accuracy: The same on the validation split.
        mass: The share of weight on attackers; None without weights.
        caught: How many attackers are excluded in this round; None without weights.
        wronged: How many other silos are excluded in it; None without weights.
        weights: The weight of silo i in place i, NaN where it gave no usable reply; empty without weights and for more
            than NAMED silos.
    """

    round: int
    exchanges: int
    accuracy: float | None
    validation_accuracy: float | None
    mass: float | None
    caught: int | None
    wronged: int | None
    weights: tuple[float, ...]


def points_of(run: Run) -> list[Point]:
    """A point for each round of a run, and for round 0 where the first model was measured."""
    n = int(run.settings.get("num-silos", 0))
    measured = {event.round: event.metrics for event in run.events if isinstance(event, Evaluated)}
    rounds = {event.round: event for event in run.rounds}
    points, exchanges = [], 0
    for number in sorted({*rounds, *([0] if 0 in measured else [])}):
        exchanges += len(rounds[number].exchanges) if number in rounds else 0
        weights, metrics = run.weights.get(number, {}), measured.get(number, {})
        points.append(
            Point(
                round=number,
                exchanges=exchanges,
                accuracy=metrics.get("accuracy"),
                validation_accuracy=metrics.get("validation-accuracy"),
                mass=weight_on(run.attackers, weights),
                caught=len(run.caught_in(number)) if weights else None,
                wronged=len(run.wrongly_excluded_in(number)) if weights else None,
                weights=tuple(weights.get(f"silo {i}", math.nan) for i in range(n)) if weights and n <= NAMED else (),
            )
        )
    return points


def write_points(points: Iterable[Point], path: Path) -> None:
    """Writes the file of one run, at once or not at all; it is on disk when this returns."""
    _write_lines([_cells(point) for point in points], path)


def read_points(path: Path) -> list[Point]:
    """The points in a file of one run.

    Raises:
        TableError: If it is no such file.
    """
    with path.open(newline="", encoding="utf-8") as file:
        return [_point(line) for line in _read_lines(file, path, FIELDS)]


class Curves:
    """The curves of the experiment whose table is `NAME.csv`, by the names of the runs.

    `NAME-curves.csv.gz` beside the table holds them all: the name of the run, then the columns FIELDS, sorted by run.
    While a grid is under way, each run that has ended has a file of its own, `NAME/RUN.csv`. `pack` moves these files
    into the one, when the grid ends; if it was killed, when the next one begins. A run's own file counts more than its
    lines in `NAME-curves.csv.gz`. Release 0.1 had only such files of one run; they are read and packed in the same way.

    Attributes:
        folder: The folder of the files of one run.
        packed: The file of all.
    """

    def __init__(self, table: Path) -> None:
        self.folder = table.with_suffix("")
        self.packed = table.with_name(f"{table.stem}-curves.csv.gz")

    def read(self) -> dict[str, list[Point]]:
        """Every curve.

        Raises:
            TableError: If a file holds something else.
        """
        return {run: [_point(line) for line in lines] for run, lines in self.lines().items()}

    def lines(self) -> dict[str, Lines]:
        """Every curve as cells.

        Another process may be packing: a run's own file goes only after the file of all has its lines, so the files of
        one run are read first.

        Raises:
            TableError: If a file holds something else.
        """
        own = self._own()
        return {**self._read_packed(), **own}

    def add(self, run: str, lines: Lines) -> None:
        """Adds the curve of a run, as a file of its own."""
        _write_lines(lines, self.folder / f"{run}.csv")

    def pack(self) -> None:
        """Moves the files of one run into the file of all. To be called with the table open (`table.opened`).

        It may be killed at any point: the files go when what they held is on disk in its new place.
        """
        own = self._own()
        before = self._read_packed()
        after = {**before, **own}
        if after != before:
            self._write_packed(after)
        for run in own:
            (self.folder / f"{run}.csv").unlink(missing_ok=True)
        for name in self._names():
            if name.endswith(".part"):  # of a run that was killed while it wrote
                (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # there is none, or there is something else in it
            self.folder.rmdir()

    @contextmanager
    def packed_at_the_end(self) -> Iterator[None]:
        """Packs what an earlier grid left; packs again at the end, also at one by an exception."""
        self.pack()
        try:
            yield
        finally:
            self.pack()

    def _own(self) -> dict[str, Lines]:
        """What the files of one run hold; without those that another process packs meanwhile."""
        found: dict[str, Lines] = {}
        for name in filter(_RUN_FILE.fullmatch, self._names()):
            path = self.folder / name
            with suppress(FileNotFoundError), path.open(newline="", encoding="utf-8") as file:
                found[path.stem] = _read_lines(file, path, FIELDS)
        return found

    def _names(self) -> list[str]:
        """The names in the folder; none where there is no folder."""
        try:
            return sorted(os.listdir(self.folder))
        except FileNotFoundError:
            return []

    def _read_packed(self) -> dict[str, Lines]:
        found: dict[str, list[list[str]]] = {}
        with suppress(FileNotFoundError), gzip.open(self.packed, "rt", newline="", encoding="utf-8") as file:
            for run, *line in _read_lines(file, self.packed, ("run", *FIELDS)):
                found.setdefault(run, []).append(line)
        return dict(found)

    def _write_packed(self, curves: Mapping[str, Lines]) -> None:
        """Writes the file at once or not at all; the same curves give the same bytes."""
        part = self.packed.with_name(f"{self.packed.name}.part")
        with part.open("wb") as raw:
            with (
                gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as compressed,
                io.TextIOWrapper(compressed, encoding="utf-8", newline="") as file,
            ):
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(("run", *FIELDS))
                writer.writerows((run, *line) for run in sorted(curves) for line in curves[run])
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(part, self.packed)
        _sync_folder(self.packed.parent)


def curves_elsewhere(table: Path) -> Mapping[str, Lines]:
    """The curves of another experiment; none if its files are damaged."""
    try:
        return Curves(table).lines()
    except (TableError, OSError):
        return {}


def _read_lines(file: TextIO, path: Path, fields: Sequence[str]) -> list[list[str]]:
    """The lines below the head, each with a cell for each of the fields. Raises TableError."""
    try:
        lines = list(csv.reader(file, strict=True))
    except (UnicodeDecodeError, csv.Error, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise TableError(f"{path}: it is no file of curves, or it is damaged: {error}") from None
    if not lines or lines[0] != list(fields):
        head = ", ".join(lines[0]) if lines else "missing"
        raise TableError(f"{path}: its columns are {head}; {', '.join(fields)} are expected")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(fields):
            raise TableError(f"{path}: line {number} has {len(line)} cells, not {len(fields)}")
    return lines[1:]


def _write_lines(lines: Lines, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{os.getpid()}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        writer.writerows(lines)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Has the names in this folder written to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cells(point: Point) -> list[str]:
    numbers = [getattr(point, field) for field in FIELDS[:-1]]
    cells = ["" if n is None else f"{n:.5g}" if isinstance(n, float) else str(n) for n in numbers]
    return [*cells, " ".join(f"{weight:.4g}" for weight in point.weights)]


def _point(line: Sequence[str]) -> Point:
    cells = dict(zip(FIELDS, line, strict=True))
    return Point(
        round=int(cells["round"]),
        exchanges=int(cells["exchanges"]),
        accuracy=_number(cells["accuracy"]),
        validation_accuracy=_number(cells["validation_accuracy"]),
        mass=_number(cells["mass"]),
        caught=int(cells["caught"]) if cells["caught"] else None,
        wronged=int(cells["wronged"]) if cells["wronged"] else None,
        weights=tuple(float(weight) for weight in cells["weights"].split()),
    )


def _number(text: str) -> float | None:
    return float(text) if text else None
