"""The (n, d) matrix every rule takes: what is refused, and how it is read in float64 without a second copy.

Besides its result every function holds one converted block of columns: 2**16 numbers, half a MiB, kept in cache.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.blocks import Floats, Vector, columns

Mask = NDArray[np.bool_]

# Squared distances are sums of squares: entries above this would make them infinite in float64.
_LARGEST = 1e150


def check_matrix(updates: Floats) -> None:
    """Refuses anything but a non-empty float32 or float64 (n, d) with finite entries up to 1e150.

    Args:
        updates: The matrix, one update a row.

    Raises:
        ValueError: If its shape, its dtype or an entry is another.
    """
    check_form(updates)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for i, row in enumerate(updates):
            # Where the sum of squares is this small no entry is larger, and NaN and infinities pass through it.
            if not float(row @ row) <= _LARGEST:  # a float32 would be compared with a float32, infinity
                _check_row(i, row)


def check_before_pass(updates: Floats) -> None:
    """`check_matrix`, but leaves the entries of a float32 matrix to the pass over them that follows.

    In float32 an entry is above 1e150 only if it is infinite, which a sum over the rows shows as well. The caller looks
    at what it summed and calls `check_matrix` if that is not finite.
    """
    if isinstance(updates, np.ndarray) and updates.dtype == np.float32:
        check_form(updates)
    else:
        check_matrix(updates)


def check_form(updates: Floats) -> None:
    """Refuses anything but a non-empty float32 or float64 (n, d)."""
    if not isinstance(updates, np.ndarray) or updates.ndim != 2:
        raise ValueError(f"updates has shape {np.shape(updates)}: a matrix (n, d) is expected, one update a row")
    if updates.dtype not in (np.float32, np.float64):
        raise ValueError(f"updates has dtype {updates.dtype}: float32 or float64 is expected")
    if updates.size == 0:
        raise ValueError(f"updates has shape {updates.shape}: there is nothing to aggregate")


def _check_row(i: int, row: Floats) -> None:
    # The extremes stand for the whole row (NaN passes through both), and cost no mask of d booleans.
    if not max(float(row.max()), -float(row.min())) <= _LARGEST:
        # In float64: float32 would read 1e150 as infinity and find nothing above it.
        bad = int(np.flatnonzero(~(np.abs(row.astype(np.float64)) <= _LARGEST))[0])
        raise ValueError(f"row {i} holds {row[bad]} at coordinate {bad}: every entry must be finite, at most 1e150")


def mix(mixing: Vector, updates: Floats) -> Floats:
    """The product M X, groups of 64 rows multiplied in updates' dtype and added in float64.

    Args:
        mixing: M, (n', n), of non-negative rows that sum to 1.
        updates: X, (n, d).

    Returns:
        A new (n', d) of updates' dtype.
    """
    n, d = updates.shape
    result = np.empty((mixing.shape[0], d), dtype=updates.dtype)
    own = mixing.astype(updates.dtype)
    # A bucket has a few rows; a product with all the others' zeros would cost as much as one without zeros.
    terms = [np.flatnonzero(line) for line in own]
    if max(line.size for line in terms) <= 8:
        for block in columns(16, d):
            for i, line in enumerate(terms):
                result[i, block] = own[i, line].astype(np.float64) @ updates[line, block]
        return result
    for block in columns(n, d):
        total = np.zeros((mixing.shape[0], block.stop - block.start))
        for start in range(0, n, 64):
            total += own[:, start : start + 64] @ updates[start : start + 64, block]
        result[:, block] = total
    return result


def sorted_columns(updates: Floats, rows: NDArray[np.intp] | None = None) -> Iterator[tuple[slice, Floats]]:
    """The columns in blocks, the values of each column ascending.

    Args:
        updates: (n, d), one update a row.
        rows: (m,), which rows to look at. Default: all n.

    Yields:
        Which columns, and a (columns, m) array of updates' dtype, which the next block overwrites.

    Raises:
        ValueError: If an entry is not finite.
    """
    m = updates.shape[0] if rows is None else rows.size
    room: Floats | None = None
    for block in columns(m, updates.shape[1]):
        if room is None:
            room = np.empty((block.stop, m), dtype=updates.dtype)
        values = room[: block.stop - block.start]
        # Written through the transpose: a third faster than a transposed copy.
        values.T[:] = updates[:, block] if rows is None else updates[rows, block]
        values.sort(axis=1)
        # NaN is sorted behind infinity, so the ends stand for all.
        if not (np.isfinite(values[:, 0]).all() and np.isfinite(values[:, -1]).all()):
            check_matrix(updates)
        yield block, values
