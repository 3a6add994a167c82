"""One pass over an (n, d) matrix in its own dtype: weighted sums, and distances to them that lose nothing by it.

A float32 matrix is read as float32: a copy in float64 of every block costs more than the sum itself. Sums stay right
because few terms are added before a total in float64 takes them over, and distances because rows are compared with a
point that is itself taken from differences. Where float32 has no room for the squares (entries beyond 1e17, or rows as
good as equal to the point) everything is done again in float64.
"""

from collections.abc import Iterator

import numpy as np

from fedlaw_flwr.core import blocks
from fedlaw_flwr.core.blocks import Floats, Vector, columns
from fedlaw_flwr.core.distances import squared_distances_to
from fedlaw_flwr.rules.matrix import check_matrix

# Terms added in the matrix's dtype before float64 takes over: of 16, float32 loses at most 1e-6 of their sum of
# magnitudes, and about a tenth of that as a rule.
_TERMS = 16
# A float32 weight below this has too few bits left, or none.
_LEAST_WEIGHT = 1e-30
# Within these a sum of squares in float32 neither overflowed nor lost what it is made of.
_LEAST_SQUARES, _MOST_SQUARES = 1e-30, 1e37


def weighted_rows(weights: Vector, updates: Floats) -> Vector:
    """sum_i w_i x_i, each group of 16 rows summed in updates' dtype, the groups in float64.

    Memory: the result and a block of columns.

    Args:
        weights: w, (n,), of absolute value at most 1.
        updates: (n, d), one update a row.

    Returns:
        (d,), float64. Where every weight is above 0 it is finite if and only if updates are.
    """
    n, d = updates.shape
    if not _representable(weights, updates):
        return blocks.weighted_sum(weights, updates)
    own = weights.astype(updates.dtype)
    groups = [slice(start, start + _TERMS) for start in range(0, n, _TERMS)]
    groups = [group for group in groups if own[group].any()]
    result = np.zeros(d)
    for block in columns(_TERMS, d):
        total = result[block]
        for group in groups:
            total += own[group] @ updates[group, block]
    return result


def mean_and_distances(weights: Vector, updates: Floats) -> tuple[Vector, Vector]:
    """z = sum_i w_i x_i, and ||x_i - z||^2 of every row, in one pass.

    z is found twice: z' = sum w_i x_i, then z = z' + sum w_i (x_i - z'), which takes off the rounding of z' as the
    weights sum to 1. So an offset common to all rows, however large, costs no digits.

    Args:
        weights: w, (n,), at least 0, of sum 1.
        updates: (n, d), one update a row.

    Returns:
        z, (d,), and the squared distances, (n,), both float64; those of float32 rows are good to about six digits.

    Raises:
        ValueError: If an entry is not finite. Of a float64 matrix the rule has to check that none is above 1e150.
    """
    n, d = updates.shape
    if _representable(weights, updates):
        own = weights.astype(updates.dtype)
        z, squared = np.empty(d), np.zeros(n)
        with np.errstate(over="ignore", invalid="ignore"):
            for block, away in _workspace(updates):
                first = own @ updates[:, block]
                np.subtract(updates[:, block], first, out=away)
                second = own @ away
                away -= second
                squared += _squares(away)
                np.add(first, second, out=z[block], dtype=np.float64)
        if _trusted(squared, updates):
            return z, squared
        check_matrix(updates)
    z = blocks.weighted_sum(weights, updates)
    return z, squared_distances_to(z, updates)


def distances_to(point: Vector, updates: Floats) -> Vector:
    """||x_i - point||^2 of every row, the point taken as a sum of two vectors of updates' dtype.

    Args:
        point: (d,), float64, finite.
        updates: (n, d), one update a row.

    Returns:
        (n,), float64; of float32 rows good to about six digits.

    Raises:
        ValueError: If an entry is not finite. Of a float64 matrix the rule has to check that none is above 1e150.
    """
    squared = np.zeros(updates.shape[0])
    with np.errstate(over="ignore", invalid="ignore"):
        for block, away in _workspace(updates):
            first = point[block].astype(updates.dtype)
            np.subtract(updates[:, block], first, out=away)
            away -= (point[block] - first).astype(updates.dtype)
            squared += _squares(away)
    if _trusted(squared, updates):
        return squared
    check_matrix(updates)
    return squared_distances_to(point, updates)


def _workspace(updates: Floats) -> Iterator[tuple[slice, Floats]]:
    """Blocks of columns, each with room for as many numbers of updates' dtype; numbers of four bytes go in twofold."""
    n, d = updates.shape
    room: Floats | None = None
    for block in columns(max(1, n * updates.itemsize // 8), d):
        if room is None:
            room = np.empty((n, block.stop), dtype=updates.dtype)
        yield block, room[:, : block.stop - block.start]


def _squares(rows: Floats) -> Floats:
    """The inner product of every row with itself, (n,), by BLAS and without a matrix of squares."""
    inner: Floats = (rows[:, None, :] @ rows[:, :, None])[:, 0, 0]
    return inner


def _representable(weights: Vector, updates: Floats) -> bool:
    return updates.dtype != np.float32 or not np.any((weights != 0) & (np.abs(weights) < _LEAST_WEIGHT))


def _trusted(squared: Vector, updates: Floats) -> bool:
    """Whether no square overflowed, and none was lost that matters beside the others."""
    if updates.dtype == np.float32:
        return bool(np.all((squared > _LEAST_SQUARES) & (squared < _MOST_SQUARES)))
    return bool(np.all(np.isfinite(squared)))
