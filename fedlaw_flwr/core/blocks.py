"""Float64 sums over float32 rows, one block of columns at a time, so that no second matrix is ever made.

Every function reads rows (m, d) of any float dtype, accumulates in float64 and holds one converted block of
columns (2**16 numbers, half a MiB, kept in cache) besides its result.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Vector = NDArray[np.float64]

_BLOCK = 2**16


def columns(rows: int, width: int) -> Iterator[slice]:
    """Slices that cover range(width), each about 2**16 numbers over that many rows."""
    step = max(1, _BLOCK // max(1, rows))
    return (slice(start, min(start + step, width)) for start in range(0, width, step))


def inner_products(rows: Floats, direction: Vector) -> Vector:
    """Delta z: the inner product of every row with direction (d,), shape (m,)."""
    result = np.zeros(rows.shape[0])
    for block in columns(*rows.shape):
        result += rows[:, block].astype(np.float64) @ direction[block]
    return result


def weighted_sum(weights: Vector, rows: Floats) -> Vector:
    """sum_i w_i D_i, shape (d,)."""
    result = np.empty(rows.shape[1])
    for block in columns(*rows.shape):
        result[block] = weights @ rows[:, block].astype(np.float64)
    return result


def scale(row: Floats, factor: float) -> None:
    """row *= factor, in place, each product rounded once to the row's dtype."""
    for block in columns(1, row.size):
        row[block] = row[block].astype(np.float64) * factor


def add_multiple(total: Vector, row: Floats, factor: float, quantum: float = 0.0) -> None:
    """total += factor * row, in place, in float64.

    Args:
        total: The sum, (d,), overwritten.
        row: The row added, (d,), of any float dtype.
        factor: What the row is multiplied by.
        quantum: Each term is rounded to a multiple of it; 0: terms are not rounded. Default: 0.
    """
    for block in columns(1, row.size):
        term = row[block].astype(np.float64) * factor
        total[block] += np.rint(term / quantum) * quantum if quantum else term


def norm(row: Floats) -> float:
    """The l2 norm of one row (d,); not finite if any entry is not."""
    squares = 0.0
    for block in columns(1, row.size):
        part = row[block].astype(np.float64)
        # Not part @ part: BLAS would split it among threads, which on a busy machine wait for one another.
        squares += float(np.square(part, out=part).sum())
    return float(np.sqrt(squares))
