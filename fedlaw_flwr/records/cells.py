"""An institution's records, from CSV, Parquet or a query: every cell a number or a text, or named as what it is not."""

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.records.matching import in_agreed_spelling, resemblance, shown
from fedlaw_flwr.records.spelling import as_numbers, clean, number, spell

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# No measurement is larger; the square of one still fits a float32.
_LARGEST = 1e19
_NAMED = 3


@dataclass(frozen=True)
class Records:
    """One table, its cells as a file or a driver gave them, its columns' names clean (see `spelling.clean`).

    Attributes:
        source: What people call it ("patients.csv").
        frame: The cells. A column without a name cannot be meant by anyone and is taken out.
        decimal: The point in numbers that are texts.
        missing: Texts that stand for no value, beside the empty one.
        rows: The number (m,) of each record, counted from 1; None for 1 to m.
        unnamed: Where the columns without a name stood that hold something, counted from 1.
    """

    source: str
    frame: pd.DataFrame
    decimal: str = "."
    missing: frozenset[str] = frozenset()
    rows: NDArray[np.int64] | None = None
    unnamed: tuple[int, ...] = ()
    _raw: dict[str, NDArray[np.object_]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _parsed: dict[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.intp]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        given = [str(name) for name in self.frame.columns]
        names = [clean(name) for name in given]
        twice = sorted({name for name in names if name and names.count(name) > 1})
        if twice:
            written = {name for name in given if clean(name) == twice[0]}
            how = ", written in ways that look alike" if len(written) > 1 else ""
            raise InputError(f"{self.source}: column {twice[0]!r} is there twice{how}; rename one of them")
        if len(self.frame) == 0:
            raise InputError(f"{self.source}: there is no record in it")
        frame = self.frame.set_axis(names, axis=1)
        if "" in names:
            places = [place for place, name in enumerate(names) if not name]
            full = [place + 1 for place in places if any(_holds(cell) for cell in frame.iloc[:, place].tolist())]
            object.__setattr__(self, "unnamed", tuple(full))
            frame = frame.iloc[:, [place for place, name in enumerate(names) if name]]
        object.__setattr__(self, "frame", frame)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def columns(self) -> list[str]:
        """The columns' names, in order."""
        return list(map(str, self.frame.columns))

    def has(self, column: str) -> bool:
        """Whether there is a column of this name."""
        return column in self.frame.columns

    def absent(self, column: str) -> str:
        """The sentence for a column there is not."""
        names = self.columns
        if like := resemblance(column, names):
            name, differs = like
            return f"{self.source}: column {column!r} is missing; there is {shown(name, 200)}, {differs}: rename it"
        near = difflib.get_close_matches(column, names, n=1)
        listed = ", ".join(shown(name)[1:-1] for name in names[:20])
        listed += f" and {len(names) - 20} more" if len(names) > 20 else ""
        return f"{self.source}: column {column!r} is missing; " + (
            f"did you mean {near[0]!r}?" if near else f"there are {listed}"
        )

    def number_of(self, row: int | np.integer[Any]) -> int:
        """The number by which people know the record at this position."""
        return int(row) + 1 if self.rows is None else int(self.rows[row])

    def named(self, rows: Collection[int] | NDArray[np.intp]) -> str:
        """The records at these positions: "row 3 and 11 more"."""
        first = self.number_of(next(iter(rows)))
        return f"row {first}" + (f" and {len(rows) - 1} more" if len(rows) > 1 else "")

    def labelled(self, column: str) -> "Records":
        """The records that have a value in this column, each with the number it has here.

        Raises:
            ValueError: Where no record has one.
        """
        kept = np.array([text is not None for text in self.texts(column)])
        if kept.all():
            return self
        if not kept.any():
            raise InputError(f"{self.source}: column {column!r} has no value in any record")
        numbers = np.arange(1, len(self) + 1) if self.rows is None else self.rows
        return Records(self.source, self.frame[kept], self.decimal, self.missing, numbers[kept], self.unnamed)

    def texts(self, column: str, agreed: Collection[str] = ()) -> NDArray[np.object_]:
        """The column's cells in their one spelling.

        See `spelling.spell` and, for a column whose texts a number type wrote, `spelling.as_numbers`.

        Args:
            column: The column's name.
            agreed: The agreed values. A cell that means one of them, by `matching.in_agreed_spelling`, is spelled as
                that value is.

        Returns:
            The texts (m,), None where there is no value.

        Raises:
            ValueError: For the first cell that is neither text, number, truth value nor date.
        """
        raw = self._spelled(column)
        distinct = {text for text in raw if text is not None}
        spelled = as_numbers(distinct, self.decimal)
        if agreed:
            # A text that is agreed as it stands is meant as it stands, also where it looks like a number.
            exact, values = in_agreed_spelling(distinct, agreed), {spelled.get(text, text) for text in distinct}
            meant = in_agreed_spelling(values, agreed)
            spelled = {text: exact.get(text) or meant.get(other := spelled.get(text, text), other) for text in distinct}
        found = np.empty(len(raw), dtype=object)
        found[:] = [None if text is None else spelled.get(text, text) for text in raw]
        return found

    def numbers(self, column: str) -> NDArray[np.float64]:
        """The column's cells (m,), NaN where there is no value.

        Raises:
            ValueError: For the first cell that is no number.
        """
        values, bad = self.parsed(column)
        if len(bad):
            cells = self._cells(column)
            raise self._no_number(column, bad, [_said(cells[row]) for row in bad], "a number")
        beyond = np.flatnonzero(np.abs(values) > _LARGEST)
        if len(beyond):
            kept = self._spelled(column)
            expected = f"a number of at most {_LARGEST:g}"
            raise self._no_number(column, beyond, [kept[row] for row in beyond], expected)
        return values

    def parsed(self, column: str, decimal: str = "") -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """The column's cells, as far as they are numbers.

        Args:
            column: The column's name.
            decimal: The point in numbers that are texts; "" for that of these records.

        Returns:
            The numbers (m,), NaN where there is none, and the positions of cells that hold something else.
        """
        point = decimal or self.decimal
        if (column, point) not in self._parsed:
            self._parsed[column, point] = self._parse(column, point)
        return self._parsed[column, point]

    def _parse(self, column: str, point: str) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        cells, kind = self.frame[column], self.frame[column].dtype
        bad: list[int] = []
        if pd.api.types.is_integer_dtype(kind) or (pd.api.types.is_float_dtype(kind) and not _short(kind)):
            values = cells.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            values = np.full(len(cells), np.nan)
            known = dict[str, float | None]()
            for row, cell in enumerate(self._cells(column)):
                if isinstance(cell, str):
                    if cell not in known:
                        known[cell] = self._number(cell, point)
                    value = known[cell]
                else:
                    value = _as_float(cell)
                if value is None:
                    bad.append(row)
                else:
                    values[row] = value
        marks = [float(mark) for mark in self.missing if _NUMBER.fullmatch(mark)]
        return np.where(np.isin(values, marks), np.nan, values), np.array(bad, dtype=np.intp)

    def _number(self, cell: str, point: str) -> float | None:
        """The number in a text, NaN where it stands for no value, None where it is no number."""
        if point == "." and _NUMBER.fullmatch(cell):  # nearly all
            return float(cell)
        text = clean(cell)
        if not text or text in self.missing:
            return float("nan")
        text = text.replace("\u2212", "-")  # the minus of typeset tables
        if point == ",":
            text = text.replace(".", "?").replace(",", ".")
        return float(text) if _NUMBER.fullmatch(text) else None

    def _cells(self, column: str) -> list[Any]:
        """The cells as Python's objects; of float32, the shortest decimals that mean them, as a CSV has them."""
        cells = self.frame[column]
        if short := _short(cells.dtype):
            return [None if cell != cell else float(str(cell)) for cell in cells.to_numpy(dtype=short, na_value=np.nan)]
        if isinstance(cells.dtype, pd.ArrowDtype):
            return list(cells.array.__arrow_array__().to_pylist())  # pandas makes the same objects one by one
        return list(cells.tolist())

    def _spelled(self, column: str) -> NDArray[np.object_]:
        """The column's cells (m,), each by itself in its one spelling, None where there is no value."""
        if column not in self._raw:
            marks = {*self.missing, *(spell(mark) for mark in self.missing)}
            numeric = {number(mark) for mark in self.missing if _NUMBER.fullmatch(mark)}
            found, known = np.empty(len(self), dtype=object), dict[str, str | None]()
            for row, cell in enumerate(self._cells(column)):
                if not isinstance(cell, str) or cell not in known:
                    try:
                        text = spell(cell)
                    except TypeError as error:
                        where = f"{self.source}: column {column!r} row {self.number_of(row)}"
                        raise InputError(f"{where} holds {error}; a text, a number or a date is expected") from None
                    if text in marks or (
                        numeric and text is not None and as_numbers([text], self.decimal).get(text) in numeric
                    ):
                        text = None
                    if isinstance(cell, str):
                        known[cell] = text
                    found[row] = text
                else:
                    found[row] = known[cell]
            self._raw[column] = found
        return self._raw[column]

    def _no_number(self, column: str, rows: Collection[int], cells: list[str], expected: str) -> ValueError:
        text, point = cells[0], "," if self.decimal == "." else "."
        hint = ""
        if expected == "a number" and _NUMBER.fullmatch(text.replace(",", ".")):
            hint = f" with decimal {self.decimal!r}; set the option decimal where it is {point!r}"
        elif text in ("true", "false"):
            hint = "; truth values belong under categorical, with the values true and false"
        elif expected == "a number" and not re.search(r"[0-9]", text):
            hint = "; if it stands for no value, name it in the option missing"
        others = list(dict.fromkeys(cell for cell in cells if cell != text))
        if len(rows) > 1:
            named = ", ".join(shown(other) for other in others[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
            hint += f" ({len(rows)} such cells{', also ' + named if others else ''})"
        where = f"{self.source}: column {column!r} row {self.number_of(next(iter(rows)))}"
        return ValueError(f"{where} is {shown(text)}, {expected} is expected{hint}")


def marks(missing: str) -> frozenset[str]:
    """The option `missing`, texts separated by commas."""
    return frozenset(clean(mark) for mark in missing.split(",")) - {""}


def listed(texts: Iterable[str], most: int = _NAMED) -> str:
    """The first of these texts, in quotes, and how many more there are."""
    all_of_them = list(texts)
    more = f" and {len(all_of_them) - most} more" if len(all_of_them) > most else ""
    return ", ".join(shown(text) for text in all_of_them[:most]) + more


def _said(cell: Any) -> str:
    """The cell as a sentence quotes it."""
    try:
        return str(spell(cell))
    except TypeError as error:
        return str(error)


def _holds(cell: Any) -> bool:
    try:
        return spell(cell) is not None
    except TypeError:
        return True


def _short(kind: Any) -> type[np.floating[Any]] | None:
    """The floating-point type of fewer than 64 bits that a column has, if it has one."""
    if not pd.api.types.is_float_dtype(kind):
        return None
    plain = getattr(kind, "numpy_dtype", kind)
    return np.float16 if plain.itemsize == 2 else np.float32 if plain.itemsize == 4 else None


def _as_float(cell: Any) -> float | None:
    """The number in a cell that is no text, NaN where it holds no value, None where it is no number."""
    if isinstance(cell, bool | np.bool_):
        return None
    if isinstance(cell, int | float | np.integer | np.floating | Decimal):
        try:
            return float(str(cell)) if isinstance(cell, np.floating) else float(cell)
        except OverflowError:
            return float("inf")
    return None if _holds(cell) else float("nan")
