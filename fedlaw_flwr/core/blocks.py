"""Sums over float32 rows, one block of columns at a time, so that no second matrix is ever made.

Every function reads rows (m, d) of any float dtype, accumulates in float64 and holds one converted block of
columns (2**16 numbers, half a MiB, kept in cache) besides its result. Converting a float32 matrix to float64 takes
twice as long as multiplying it by a vector; `single_inner_products` and `single_weighted_sum` do not convert it.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.half import to_half

Floats = NDArray[np.floating]
Vector = NDArray[np.float64]

_BLOCK = 2**16
# Columns of one product in single precision: enough that calling BLAS costs nothing, few enough that sums stay short.
_SINGLE = 2**13
_DOT = 2**13


def columns(rows: int, width: int, numbers: int = 0) -> Iterator[slice]:
    """Slices that cover range(width), each about that many numbers over that many rows; 0: 2**16 of them."""
    step = max(1, (numbers or _BLOCK) // max(1, rows))
    return (slice(start, min(start + step, width)) for start in range(0, width, step))


def inner_products(rows: Floats, direction: Floats) -> Vector:
    """Delta z: the inner product of every row with direction (d,), shape (m,)."""
    result = np.zeros(rows.shape[0])
    for block in columns(*rows.shape):
        result += rows[:, block].astype(np.float64) @ direction[block]
    return result


def weighted_sum(weights: Vector, rows: Floats) -> Vector:
    """sum_i w_i D_i, shape (d,)."""
    result = np.empty(rows.shape[1])
    _sum_into(result, weights, rows)
    return result


def rounded_sum(weights: Vector, rows: Floats) -> Floats:
    """`weighted_sum`, rounded once to the rows' own dtype; equal columns have equal sums."""
    result = np.empty(rows.shape[1], rows.dtype)
    _sum_into(result, weights, rows)
    return result


def _sum_into(result: Floats, weights: Vector, rows: Floats) -> None:
    for block in columns(*rows.shape):
        result[block] = weights @ rows[:, block].astype(np.float64)


def single_inner_products(rows: Floats, direction: Floats) -> Vector:
    """Delta z as `inner_products`, with float32 rows multiplied in float32.

    The products of 2**13 columns are summed in float32 and these sums in float64. The error is at most a few 1e-7 of
    |delta_i| |z|, less than what the rounding of the rows to float32 leaves open. Where a product is beyond float32,
    and for rows of another dtype, the result is that of `inner_products`.

    Args:
        rows: Delta, (m, d).
        direction: z, (d,).

    Returns:
        (m,).
    """
    largest = float(max(direction.max(initial=0.0), -direction.min(initial=0.0)))
    if rows.dtype != np.float32 or not 0 < largest < np.inf:
        return inner_products(rows, direction)
    exponent = int(np.frexp(largest)[1])
    result = np.zeros(rows.shape[0])
    with np.errstate(over="ignore", invalid="ignore"):
        for block in _single_columns(rows.shape[1]):
            # z as multiples of 2**exponent: none is above 1, whatever z is measured in
            result += rows[:, block] @ np.ldexp(direction[block], -exponent).astype(np.float32, copy=False)
    return np.ldexp(result, exponent) if np.isfinite(result).all() else inner_products(rows, direction)


def single_weighted_sum(weights: Vector, rows: Floats) -> Floats:
    """sum_i w_i D_i as `weighted_sum`, in the rows' own dtype: float32 rows are multiplied and summed in float32.

    The error is a few 1e-7 of sum_i w_i |D_ik| for each number k of the sum.

    Args:
        weights: w, (m,), at least 0, with a sum of at most 1, so that no sum is beyond what the rows hold.
        rows: D, (m, d).

    Returns:
        (d,).
    """
    if rows.dtype != np.float32:
        return weighted_sum(weights, rows)
    result = np.empty(rows.shape[1], np.float32)
    narrow = weights.astype(np.float32)
    for block in _single_columns(rows.shape[1]):
        np.matmul(narrow, rows[:, block], out=result[block])
    return result


def difference(left: Floats, right: Floats, out: Floats) -> float:
    """out = left - right for rows (d,), and the sum of the squares of `out`, a block at a time while it is in cache."""
    squares = 0.0
    for block in columns(2, out.size):
        part = np.subtract(left[block], right[block], out=out[block], casting="same_kind")
        squares += _squares(part)
    return squares


def scaled(row: Floats, divisor: float, out: Floats) -> float:
    """out = row / divisor for rows (d,), 0 where the divisor is; returns the sum of squares before rounding for `out`.

    No number of the row is above the divisor.
    """
    if not divisor > 0:
        out[:] = 0
        return 0.0
    squares, divide_by = 0.0, np.float32(divisor) if row.dtype == np.float32 else np.float64(divisor)
    for block in columns(2, out.size):
        part = row[block] / divide_by
        squares += _squares(part)
        out[block] = to_half(part.astype(np.float32, copy=False)) if out.dtype == np.float16 else part
    return squares


def scale(row: Floats, factor: float) -> None:
    """row *= factor, in place, in the row's dtype."""
    row *= row.dtype.type(factor)


def add_multiple(total: Vector, row: Floats, factor: float, quantum: float = 0.0) -> None:
    """total += factor * row, in place, in float64.

    Args:
        total: The sum, (d,), overwritten.
        row: The row added, (d,), of any float dtype.
        factor: What the row is multiplied by.
        quantum: Each term is rounded to a multiple of it; 0: terms are not rounded. Default: 0.
    """
    for block in columns(2, row.size):
        term = row[block].astype(np.float64)
        term *= factor
        if quantum:
            term /= quantum
            np.rint(term, out=term)
            term *= quantum
        total[block] += term


def add_steps(total: NDArray[np.int32], row: Floats, factor: float) -> None:
    """total += factor * row rounded to whole numbers, in place: the same to the bit in any order of adding.

    Args:
        total: The sum, (d,), overwritten. It must not leave the range of int32.
        row: The row added, (d,), float32.
        factor: What the row is multiplied by, in float32.
    """
    narrow = np.float32(factor)
    for block in columns(2, row.size):
        term = row[block] * narrow
        np.rint(term, out=term)
        total[block] += term.astype(np.int32)


def norm(row: Floats) -> float:
    """The l2 norm of one row (d,); not finite if any entry is not."""
    return float(np.sqrt(sum(_squares(row[block]) for block in columns(2, row.size))))


def _squares(part: Floats) -> float:
    """The sum of squares of a block of a row, in float64."""
    wide = part.astype(np.float64)
    # A few thousand at a time: more BLAS would split among threads, which on a busy machine wait for one another.
    pieces = (wide[start : start + _DOT] for start in range(0, wide.size, _DOT))
    return sum(float(np.dot(piece, piece)) for piece in pieces)


def _single_columns(width: int) -> Iterator[slice]:
    """Slices of 2**13 columns that cover range(width)."""
    return (slice(start, min(start + _SINGLE, width)) for start in range(0, width, _SINGLE))
