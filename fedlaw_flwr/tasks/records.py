"""An institution's records, from CSV, Parquet or a query: every cell a number or a text, or named as what it is not."""

import csv
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SUFFIXES = (".csv", ".tsv", ".parquet")

_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
# No measurement is larger; the square of one still fits a float32.
_LARGEST = 1e19


@dataclass(frozen=True)
class Records:
    """One table. source: what people call it ("patients.csv"); decimal: the point in numbers that are texts; missing:
    texts that stand for no value, beside the empty one. Rows are counted from 1, the header not counted."""

    source: str
    frame: pd.DataFrame
    decimal: str = "."
    missing: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        names = list(self.frame.columns)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{self.source}: column {twice[0]!r} is there twice")
        if len(self.frame) == 0:
            raise ValueError(f"{self.source}: there is no record in it")

    def __len__(self) -> int:
        return len(self.frame)

    def has(self, column: str) -> bool:
        """Whether there is a column of this name."""
        return column in self.frame.columns

    def absent(self, column: str) -> str:
        """The sentence for a column there is not."""
        names = [str(name) for name in self.frame.columns]
        near = difflib.get_close_matches(column, names, n=1)
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        return f"{self.source}: column {column!r} is missing; " + (
            f"did you mean {near[0]!r}?" if near else f"there are {shown}"
        )

    def texts(self, column: str) -> NDArray[np.object_]:
        """The column's cells (m,) as stripped texts, None where there is no value.

        A whole number is written without ".0", true and false as such, so that CSV, Parquet and SQL agree.
        """
        found = np.empty(len(self), dtype=object)
        for row, cell in enumerate(self.frame[column].tolist()):
            text = _text(cell)
            found[row] = None if text is None or text in self.missing else text
        return found

    def numbers(self, column: str) -> NDArray[np.float64]:
        """The column's cells (m,), NaN where there is no value. Raises ValueError for the first that is no number."""
        cells = self.frame[column]
        if pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_bool_dtype(cells):
            values = cells.to_numpy(dtype=np.float64, na_value=np.nan)
            shown: Any = values
        else:
            shown = self.texts(column)
            values = self._parsed(column, shown)
        values = np.where(np.isin(values, self._missing_numbers()), np.nan, values)
        beyond = np.flatnonzero(np.abs(values) > _LARGEST)
        if len(beyond):
            raise self._no_number(column, beyond[0], shown[beyond[0]], f"a number of at most {_LARGEST:g}")
        return values

    def _parsed(self, column: str, texts: NDArray[np.object_]) -> NDArray[np.float64]:
        cells = pd.Series(texts, dtype="string")
        present = cells.notna().to_numpy()
        if self.decimal == ",":
            cells = cells.str.replace(".", "?", regex=False).str.replace(",", ".", regex=False)
        good = cells.str.fullmatch(_NUMBER).fillna(False).to_numpy(dtype=bool)
        bad = np.flatnonzero(present & ~good)
        if len(bad):
            raise self._no_number(column, bad[0], texts[bad[0]], "a number")
        values = np.full(len(cells), np.nan)
        values[present] = cells[present].to_numpy(dtype=object).astype(np.float64)
        return values

    def _no_number(self, column: str, row: int, cell: object, expected: str) -> ValueError:
        text, point = str(cell), "," if self.decimal == "." else "."
        hint = ""
        if expected == "a number" and re.fullmatch(_NUMBER, text.replace(",", ".")):
            hint = f" with decimal {self.decimal!r}; set the option decimal where it is {point!r}"
        elif expected == "a number" and not re.search(r"[0-9]", text):
            hint = "; if it stands for no value, name it in the option missing"
        where = f"{self.source}: column {column!r} row {row + 1}"
        return ValueError(f"{where} is {text[:40]!r}, {expected} is expected{hint}")

    def _missing_numbers(self) -> list[float]:
        return [float(mark) for mark in self.missing if re.fullmatch(_NUMBER, mark)]


def marks(missing: str) -> frozenset[str]:
    """The option `missing`, texts separated by commas."""
    return frozenset(mark.strip() for mark in missing.split(",")) - {""}


def find_file(data_path: str, file: str) -> Path:
    """The one file of records: data-path itself, or within it the one named, or the only one. Raises ValueError."""
    if not data_path:
        raise ValueError("data-path is missing: a CSV or Parquet file, or the folder it lies in")
    path = Path(data_path).expanduser()
    if path.is_file():
        if file and path.name != file:
            raise ValueError(f"data-path={data_path!r} is a file, and file={file!r} another: name one of them")
        found = path
    elif not path.is_dir():
        raise ValueError(f"data-path={data_path!r}: there is no such file or folder")
    elif file:
        found = path / file
        if not found.is_file():
            raise ValueError(f"file={file!r}: there is no such file in data-path={data_path!r}")
    else:
        files = sorted(inner for inner in path.iterdir() if inner.suffix.lower() in SUFFIXES and inner.is_file())
        if len(files) != 1:
            there = ", ".join(inner.name for inner in files) or f"no {', '.join(SUFFIXES)}"
            raise ValueError(f"data-path={data_path!r}: one file is expected and there is {there}; name it: file")
        (found,) = files
    if found.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{found.name}: its name must end in {', '.join(SUFFIXES)}")
    return found


def read_file(path: Path, separator: str, encoding: str) -> pd.DataFrame:
    """The table in a CSV (all cells as text) or Parquet file. Raises ValueError for one that cannot be read."""
    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
            frame.columns = [str(name) for name in frame.columns]
            return frame
        with path.open(encoding=encoding, newline="") as lines:
            return _table(path.name, csv.reader(lines, delimiter=separator, strict=True), separator)
    except UnicodeError:
        raise ValueError(
            f"{path.name}: it is not written in {encoding}; set the option encoding (cp1252 for many from Windows)"
        ) from None
    except LookupError:
        raise ValueError(f"encoding={encoding!r}: there is no such encoding; try utf-8 or cp1252") from None
    except (OSError, csv.Error) as error:
        raise ValueError(f"{path.name}: it cannot be read: {error}") from None
    except ValueError as error:
        if str(error).startswith(path.name):
            raise
        raise ValueError(f"{path.name}: it cannot be read: {error}") from None


def _table(name: str, rows: Iterable[list[str]], separator: str) -> pd.DataFrame:
    """The rows under the names of the first; blank lines are skipped."""
    filled = [row for row in rows if row]
    if not filled:
        raise ValueError(f"{name}: it is empty; a first line with the columns' names is expected")
    header = [column.strip() for column in filled[0]]
    other = next((mark for mark in ";\t,|" if mark != separator and mark in header[0]), None)
    if len(header) == 1 and other:
        raise ValueError(
            f"{name}: its one column is {header[0][:40]!r}; set the option separator, {other!r} perhaps (in a shell "
            f"-o separator='{other}')"
        )
    for number, row in enumerate(filled[1:], start=1):
        # A file cut short or a stray separator would shift values under other columns' names.
        if len(row) != len(header):
            raise ValueError(f"{name}: row {number} has {len(row)} cells, the header has {len(header)}")
    return pd.DataFrame(filled[1:], columns=header, dtype=object)


def _text(cell: Any) -> str | None:
    if isinstance(cell, str):
        return cell.strip() or None
    if cell is None or cell is pd.NaT or cell is pd.NA or (isinstance(cell, float) and cell != cell):
        return None
    if isinstance(cell, bool | np.bool_):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)
