"""What looks wrong in a silo's columns and is no error: another unit, another spelling, cells that say nothing."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from fedlaw_flwr.records.cells import Records, listed
from fedlaw_flwr.records.matching import alike, resemblances
from fedlaw_flwr.records.schema import Categorical, Numeric, Schema

MAD_TO_DEVIATION = 1.4826
"""Of normal values, the deviation is so many times the median absolute deviation."""

MOST = 0.5
"""A column is mostly missing, or mostly other, if more than this share of its cells is."""

# Numbers of which so many are one and the same: a column of this kind has no spread to be agreed on.
_CONSTANT = 0.95
# Fewer records may be alike by chance.
_FEWEST = 20
_FAR, _NEAR, _NARROW = 8.0, 2.0, 0.1
# Beyond this, neighbouring whole numbers are one floating-point number.
_EXACT = 2**53
# As spreadsheets save a whole number of 12 digits and more that nobody declared to be text: 4.69E+17.
_ROUNDED = re.compile(r"[0-9](?:[.,]([0-9]+))?E\+([0-9]{2})")

Kind = Literal["missing", "other", "constant", "spelling", "unit", "digits"]
_ALARMS: dict[Kind, str] = {
    "missing": "is mostly missing",
    "other": "is mostly other than the agreed values",
    "constant": "is constant",
    "spelling": "has values that look like agreed ones, spelled otherwise",
    "unit": "seems to be in another unit than agreed",
    "digits": "holds long codes that lost digits",
}


@dataclass(frozen=True)
class Suspicion:
    """Something about one column.

    Attributes:
        column: The column's name.
        kind: What is suspected.
        sentence: For the silo's own people, with cells and figures.
    """

    column: str
    kind: Kind
    sentence: str

    @property
    def alarm(self) -> str:
        """The column and what is wrong, and nothing of the data, so that the federation may be told."""
        return f"column {self.column!r} {_ALARMS[self.kind]}"


def look(schema: Schema, records: Records) -> list[Suspicion]:
    """What is suspected of the schema's columns, in the order of its file.

    - More than half of a column's cells hold no value, or are none of the agreed values.
    - All cells of a column with several agreed values are alike, or 95 % of the numbers in one with an agreed scale.
    - Cells that are no agreed value look like one: F where f is agreed.
    - Numbers seem to be in another unit than agreed. Either more than half of them lie beyond 8 scales from the center,
      or their spread (1.4826 MAD) is under a tenth of the scale and the median beyond 2 scales; the second finds
      5.4 mmol/L where 100 mg/dL is agreed.
    - Whole numbers of 16 digits and more came as floating-point numbers, which do not hold them all, or long numbers
      were rounded by a spreadsheet (4.69E+17).

    Raises:
        ValueError: Where a column of numbers holds something else.
    """
    columns: tuple[Numeric | Categorical, ...] = (*schema.numeric, *schema.categorical)
    return [
        Suspicion(column.column, kind, f"{records.source}: column {column.column!r}: {said}")
        for column in columns
        if records.has(column.column)
        for kind, said in (_numeric(column, records) if isinstance(column, Numeric) else _categorical(column, records))
    ]


def _numeric(column: Numeric, records: Records) -> Iterator[tuple[Kind, str]]:
    values = records.numbers(column.column)
    present = values[~np.isnan(values)]
    yield from _absent(len(values) - len(present), len(values))
    if len(present) == 0:
        return
    if len(present) >= _FEWEST:
        value, count = Counter(present.tolist()).most_common(1)[0]
        if count >= _CONSTANT * len(present):
            yield (
                "constant",
                f"{count} of {len(present)} numbers are {value:g}: it tells this silo's records hardly apart",
            )
    if column.center is None or column.scale is None:
        return
    median = float(np.median(present))
    spread = MAD_TO_DEVIATION * float(np.median(np.abs(present - median)))
    unit = f" ({column.unit})" if column.unit else ""
    agreed = f"agreed are center {column.center:g}{unit} and scale {column.scale:g}: another unit?"
    if np.mean(np.abs(present - column.center) > _FAR * column.scale) > MOST:
        yield "unit", f"median is {median:g}, {agreed}"
    elif 0 < spread < _NARROW * column.scale and abs(median - column.center) > _NEAR * column.scale:
        yield "unit", f"median is {median:g} and spread {spread:g}, {agreed}"


def _categorical(column: Categorical, records: Records) -> Iterator[tuple[Kind, str]]:
    counts = Counter(text for text in records.texts(column.column, column.values) if text is not None)
    present = counts.total()
    yield from _absent(len(records) - present, len(records))
    strange = Counter({text: count for text, count in counts.items() if text not in column.values})
    if strange.total() > MOST * present:
        which = f"{strange.total()} of {present} cells are none of the schema's values ({', '.join(column.values)})"
        yield "other", f"{which}: {listed(by_count(strange))}"
    like = resemblances(by_count(strange), column.values)
    if like:
        which = "; ".join(f"{alike(text, value)} in {counts[text]} records" for text, value in list(like.items())[:5])
        more = f"; and {len(like) - 5} more" if len(like) > 5 else ""
        said = f"{which}{more}; these cells count as other: write them as agreed, or agree on them"
        yield "spelling", said
    if present >= _FEWEST and len(counts) == 1 and len(column.values) > 1:
        (value,) = counts
        yield "constant", f"all {present} cells that have a value are {value!r}: they tell nothing at this silo"
    cells = records.frame[column.column]
    if pd.api.types.is_float_dtype(cells.dtype):
        size = np.abs(cells.to_numpy(dtype=np.float64, na_value=0.0))
        if size.max(initial=0) >= _EXACT:
            said = "came as floating-point numbers, in which different codes of 16 digits and more become one"
            yield "digits", f"its whole numbers {said}: export them as whole numbers or text"
    if said := rounded(counts):
        yield "digits", said


def _absent(count: int, total: int) -> Iterator[tuple[Kind, str]]:
    if count > MOST * total:
        yield "missing", f"{count} of {total} cells have no value"


def rounded(counts: Counter[str]) -> str:
    """What is wrong with whole numbers of 12 digits and more that have lost some of their digits.

    Args:
        counts: The texts of a column, with how many records have each.

    Returns:
        What is wrong; empty where no text is such a number.
    """
    found = {text: _ROUNDED.fullmatch(text) for text in by_count(counts)}
    cut = [text for text, match in found.items() if match and int(match[2]) > max(10, len(match[1] or ""))]
    lost = "a spreadsheet dropped digits, and different codes became one; export the column anew, as text"
    return f"in {listed(cut)} {lost}" if cut else ""


def by_count(counts: Counter[str]) -> list[str]:
    """The texts, the most frequent first, else in their own order."""
    return sorted(counts, key=lambda text: (-counts[text], text))
