"""The rows of an experiment: a CSV line a run, appended when it ends; one that was killed goes on from there."""

import csv
import fcntl
import io
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedlaw_flwr.core.errors import InputError

FIELDS = (
    "method",
    "task",
    "attack",
    "q",
    "byzantine",
    "seed",
    "accuracy",
    "validation_accuracy",
    "attack_success",
    "attackers",
    "caught",
    "wronged",
    "precision",
    "recall",
    "f1",
    "detection_accuracy",
    "mass_on_attackers",
    "rounds",
    "held",
    "failed",
    "bytes_down",
    "bytes_up",
    "seconds",
    "made_by",
    "run",
    "settings",
)
"""The columns of `fedlaw grid`. made_by: the releases and the device that made it; run: the name of its curve;
settings: what `fedlaw run --engine batched` is told for the same."""

RECORDED_AS = {
    "score-decay": "memory",
    "cluster-distance": "coalition-distance",
    "loss-only-replies": "thrift",
    "relearn-on-conflict": "watch",
}
"""Settings that were renamed after release 0.1, with the names that its tables have for them. A run is known by the old
names, for good: a run that was done under an old name is not done again, and its curve keeps its name."""

Row = Mapping[str, str]


class TableError(InputError):
    """A results file is not what this release writes, or somebody else is writing it."""


def key_of(row: Row) -> tuple[str, str]:
    """What makes two runs the same: the method, and the settings in the names of RECORDED_AS."""
    return row["method"], recorded(row["settings"])


def recorded(settings: str) -> str:
    """The settings of a run, as text, under the names of RECORDED_AS and sorted by them; else as they are."""
    if not any(f"{name}=" in settings for name in RECORDED_AS):
        return settings
    pairs = [pair.partition("=") for pair in shlex.split(settings)]
    old = sorted((RECORDED_AS.get(name, name), value) for name, _, value in pairs)
    return shlex.join(f"{name}={value}" for name, value in old)


def read_rows(path: Path, fields: Sequence[str] = FIELDS) -> list[Row]:
    """The rows of a results file; none if it does not exist. A last line that was cut short is left out.

    Args:
        path: The results file.
        fields: The columns that it must have.

    Raises:
        TableError: For a file with other columns, or with rows that are not whole.
    """
    if not path.exists():
        return []
    return _rows(path, path.read_bytes(), fields)


def _rows(path: Path, content: bytes, fields: Sequence[str]) -> list[Row]:
    whole = content[: content.rfind(b"\n") + 1]
    if content and not whole and not ",".join(fields).startswith(content.decode(errors="replace")):
        raise TableError(f"{path}: it is no results file")
    try:
        reader = csv.reader(io.StringIO(whole.decode("utf-8")), strict=True)
        head, *lines = list(reader) or [list(fields)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}: it is no results file: {error}") from None
    if head != list(fields):
        raise TableError(f"{path}: its columns are {', '.join(head)}; {', '.join(fields)} are expected")
    for number, line in enumerate(lines, 2):
        if len(line) != len(fields):
            raise TableError(f"{path}: row {number} has {len(line)} cells, not {len(fields)}; mend it or take it out")
    return [dict(zip(fields, line, strict=True)) for line in lines]


def found_elsewhere(path: Path) -> dict[tuple[str, str], tuple[Row, Path]]:
    """The rows of the other results files beside this one, by key, each with the file it stands in.

    A run done for one experiment need not be done again for another. Files that are no results are passed over.
    """
    found: dict[tuple[str, str], tuple[Row, Path]] = {}
    for other in sorted(path.parent.glob("*.csv")):
        if other == path:
            continue
        try:
            rows = read_rows(other)
        except (TableError, OSError):
            continue
        for row in rows:
            found.setdefault(key_of(row), (row, other))
    return found


class Table:
    """A results file open for appending; see `opened`."""

    def __init__(self, path: Path, rows: list[Row], fields: Sequence[str]) -> None:
        self.path, self.rows, self.fields = path, rows, fields

    @property
    def done(self) -> set[tuple[str, str]]:
        """The keys of the runs of `fedlaw grid` that have a row; see `key_of`."""
        return set(map(key_of, self.rows))

    def append(self, figures: Mapping[str, Any]) -> None:
        """Adds a row, on disk before this returns. What is missing or None is left empty."""
        row = {field: _written(figures.get(field)) for field in self.fields}
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.fields, lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            os.fsync(file.fileno())
        self.rows.append(row)


@contextmanager
def opened(path: Path, fields: Sequence[str] = FIELDS) -> Iterator[Table]:
    """The table of this file, for this process alone; a line that a kill cut short is cut off.

    Args:
        path: The results file, made if it does not exist.
        fields: The columns that it must have.

    Raises:
        TableError: If another process has the file open, or for a file with other columns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TableError(f"{path}: another process is adding to it; wait for it") from None
        lock.seek(0)
        content = lock.read()
        rows = _rows(path, content, fields)
        os.truncate(path, content.rfind(b"\n") + 1)
        yield Table(path, rows, fields)


def _written(value: Any) -> str:
    """A cell: floats to seven digits, which is more than any of them is good for."""
    if value is None:
        return ""
    return f"{value:.7g}" if isinstance(value, float) else str(value)
