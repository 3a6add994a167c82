"""Sums over rows, a block at a time, without a second matrix; the same to the bit with any number of BLAS threads.

Functions take rows (m, d) or one row (d,), of any float dtype. Besides the result they hold one block of at most 2**17
numbers, which stays in cache. Those that run once for every row or group of rows keep their block from call to call
(`_Workspace`): memory that is asked for and given back at every block can cost more than the sums do. Converting a
float32 matrix to float64 takes twice as long as multiplying it by a vector; `single_inner_products` and `rounded_sum`
do not convert it.

No result depends on how many threads BLAS has, nor on where an array lies in memory. A BLAS that splits a product among
threads adds in another order, so no product here is left to it but inner products of at most 2**13 numbers, which it
does not split (OpenBLAS does from 10,000 on). Weighted sums are added row by row by `numpy.einsum`, which uses no BLAS:
every column is computed alike, wherever it stands, so that equal columns have equal sums.
"""

import math
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fedlaw_flwr.core.half import to_half

Floats = NDArray[np.floating]
Vector = NDArray[np.float64]

_BLOCK = 2**16
# Numbers of a row that one NumPy call takes: with fewer, the calls themselves cost as much as what they do.
_LONG = 2**17
# The longest inner product that BLAS is asked for.
_DOT = 2**13
# Squares added in float32 where six digits do.
_LANE = 128
# Columns of one weighted sum: the row of sums stays in the innermost caches.
_SUMS = 2**15
# Rows added in float32 before float64 takes over: of 16 terms, float32 loses at most 1e-6 of their sum of magnitudes.
_TERMS = 16
# A float32 weight below this has too few bits left, or none.
_LEAST_WEIGHT = 1e-30
_ALL = slice(None)


class _Workspace(threading.local):
    """The memory that sums of one thread work in: a block for each dtype."""

    def __init__(self) -> None:
        self._blocks: dict[np.dtype[Any], NDArray[Any]] = {}

    def block(self, size: int, dtype: DTypeLike) -> NDArray[Any]:
        """So many numbers, at most 2**17, with no values set: the caller's until it asks for this dtype again."""
        kind = np.dtype(dtype)
        if kind not in self._blocks:
            self._blocks[kind] = np.empty(_LONG, kind)
        return self._blocks[kind][:size]


_workspace = _Workspace()


def columns(rows: int, width: int, numbers: int = 0) -> Iterator[slice]:
    """Slices that cover range(width), each about that many numbers over that many rows; 0: 2**16 of them."""
    step = max(1, (numbers or _BLOCK) // max(1, rows))
    return (slice(start, min(start + step, width)) for start in range(0, width, step))


def inner_products(rows: Floats, direction: Floats) -> Vector:
    """Delta z: the inner product of every row with direction (d,), shape (m,)."""
    result = np.zeros(rows.shape[0])
    for block in columns(*rows.shape):
        result += _products(rows[:, block].astype(np.float64), direction[block].astype(np.float64))
    return result


def weighted_sum(weights: Vector, rows: Floats, which: NDArray[np.intp] | None = None) -> Vector:
    """sum_i w_i D_i, shape (d,); equal columns have equal sums.

    Args:
        weights: w, (m,).
        rows: D, (m, d).
        which: The rows to add up, in this order; w then has a number for each of them. The others are not read.
            Default: None, all.
    """
    result = np.empty(rows.shape[1])
    _sum_into(result, weights, rows, which)
    return result


def rounded_sum(weights: Vector, rows: Floats) -> Floats:
    """`weighted_sum` in the rows' own dtype; equal columns have equal sums.

    Of float32 rows, groups of 16 are multiplied and added in float32 and the groups in float64, and the total is
    rounded once. The error is at most 2e-6 of sum_i |w_i D_ik| for each number k of the sum, as a rule a tenth of that.

    Args:
        weights: w, (m,), at least 0, with a sum of at most 1, so that no sum is beyond what the rows hold.
        rows: D, (m, d).

    Returns:
        (d,).
    """
    result = np.empty(rows.shape[1], rows.dtype)
    if rows.dtype != np.float32 or np.any((weights != 0) & (np.abs(weights) < _LEAST_WEIGHT)):
        _sum_into(result, weights, rows)
        return result
    narrow = weights.astype(np.float32)
    groups = [slice(start, start + _TERMS) for start in range(0, narrow.size, _TERMS)]
    groups = [group for group in groups if narrow[group].any()]
    for block in _alike(result.size, _SUMS):
        size = block.stop - block.start
        total, term = _workspace.block(size, np.float64), _workspace.block(size, np.float32)
        total[:] = 0
        for group in groups:
            np.einsum("i,ij->j", narrow[group], rows[group, block], out=term)
            total += term
        result[block] = total
    return result


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
        for block in columns(1, rows.shape[1], _LONG):
            # z as multiples of 2**exponent: none is above 1, whatever z is measured in
            result += _products(rows[:, block], np.ldexp(direction[block], -exponent).astype(np.float32, copy=False))
    return np.ldexp(result, exponent) if np.isfinite(result).all() else inner_products(rows, direction)


def subtract(left: Floats, parts: Iterable[tuple[slice, Floats]], out: Floats) -> float:
    """out = left - right for rows (d,), and the l2 norm of `out`, taken while its numbers are in cache.

    Args:
        left: (d,).
        parts: Where each part of the right row lies, and the part; one after another, from 0 to d.
        out: (d,), overwritten.

    Returns:
        The norm; not finite if an entry of `out` is not.
    """
    squares, begin = 0.0, 0  # what is not squared yet begins here: small parts are squared together
    for where, right in parts:
        for block in columns(1, right.size, _LONG) if right.size > _LONG else (_ALL,):
            place = slice(where.start + block.start, where.start + block.stop) if block is not _ALL else where
            np.subtract(left[place], right[block], out[place], casting="same_kind")
            if place.stop - begin >= _LONG:
                squares += _squares(out[begin : place.stop])
                begin = place.stop
    return math.sqrt(squares + _squares(out[begin:]))


def scaled(row: Floats, divisor: float, out: Floats) -> float:
    """out = row / divisor for rows (d,), 0 where the divisor is; returns the sum of squares before rounding for `out`.

    No number of the row is above the divisor. A float32 row is multiplied by 1 / divisor and its squares are summed in
    float32 over 128 numbers at a time, then in float64: the sum is right to 3e-6, where float16 keeps 5e-4.
    """
    if not divisor > 0:
        out[:] = 0
        return 0.0
    squares = 0.0
    quick = row.dtype == np.float32 and _LEAST_WEIGHT < divisor < 1 / _LEAST_WEIGHT
    for block in columns(1, out.size, _LONG):
        if quick:
            part = _workspace.block(row[block].size, np.float32)
            np.multiply(row[block], np.float32(1 / divisor), out=part)
            squares += _single_squares(part)
        else:
            part = row[block] / row.dtype.type(divisor)
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
    for block in columns(1, row.size, _LONG):
        term = _wide(row[block])
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
    for block in columns(1, row.size, _LONG):
        term = _workspace.block(row[block].size, np.float32)
        np.multiply(row[block], narrow, out=term)
        np.rint(term, out=term)
        steps = term.view(np.int32)  # number by number in the same memory
        np.copyto(steps, term, casting="unsafe")
        total[block] += steps


def norm(row: Floats) -> float:
    """The l2 norm of one row (d,); not finite if any entry is not."""
    return math.sqrt(_squares(row))


def _squares(row: Floats) -> float:
    """The sum of squares of a row, in float64."""
    total = 0.0
    for start in range(0, row.size, _LONG):
        wide = _wide(row[start : start + _LONG])
        whole = wide.size - wide.size % _DOT
        if whole:
            pieces = wide[:whole].reshape(-1, 1, _DOT)
            total += float(np.matmul(pieces, pieces.swapaxes(1, 2)).sum())
        rest = wide[whole:]
        total += float(np.dot(rest, rest))
    return total


def _wide(row: Floats) -> Vector:
    """At most 2**17 numbers in float64, in the workspace."""
    wide = _workspace.block(row.size, np.float64)
    np.copyto(wide, row)
    return wide


def _single_squares(row: NDArray[np.float32]) -> float:
    """The sum of squares of a float32 row whose squares float32 holds, to six digits."""
    whole = row.size - row.size % _LANE
    pieces, rest = row[:whole].reshape(-1, _LANE), row[whole:]
    total = np.einsum("ij,ij->i", pieces, pieces).sum(dtype=np.float64)
    return float(total) + float(np.einsum("i,i->", rest, rest))


def _products(rows: Floats, vector: Floats) -> Vector:
    """The inner product of every row with a vector of their dtype, (m,): of 2**13 numbers by BLAS, these in float64."""
    m, width = rows.shape
    whole = width - width % _DOT
    result = np.zeros(m)
    if whole:
        pieces = rows[:, :whole].reshape(m, -1, 1, _DOT) @ vector[:whole].reshape(-1, _DOT, 1)
        result += pieces.sum(axis=(1, 2, 3), dtype=np.float64)
    if whole < width:
        result += (rows[:, None, whole:] @ vector[whole:, None])[:, 0, 0]
    return result


def _sum_into(result: Floats, weights: Vector, rows: Floats, which: NDArray[np.intp] | None = None) -> None:
    for block in _alike(result.size, max(1, _BLOCK // max(1, len(weights)))):
        taken = rows[:, block] if which is None else rows[which, block]
        result[block] = np.einsum("i,ij->j", weights, taken.astype(np.float64))


def _alike(width: int, most: int) -> Iterator[slice]:
    """Slices that cover range(width), of at most so many columns and of about as many each.

    None is a single column unless all are: of one column, `einsum` would add in another order than of two.
    """
    count = -(-width // max(2, most))
    return (slice(k * width // count, (k + 1) * width // count) for k in range(count))
