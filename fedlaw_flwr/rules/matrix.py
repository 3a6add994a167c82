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
    if not isinstance(updates, np.ndarray) or updates.ndim != 2:
        raise ValueError(f"updates has shape {np.shape(updates)}: a matrix (n, d) is expected, one update a row")
    if updates.dtype not in (np.float32, np.float64):
        raise ValueError(f"updates has dtype {updates.dtype}: float32 or float64 is expected")
    if updates.size == 0:
        raise ValueError(f"updates has shape {updates.shape}: there is nothing to aggregate")
    for i, row in enumerate(updates):
        # The extremes stand for the whole row (NaN passes through both), and cost no mask of d booleans.
        if not max(float(row.max()), -float(row.min())) <= _LARGEST:
            bad = int(np.flatnonzero(~(np.abs(row) <= _LARGEST))[0])
            raise ValueError(f"row {i} holds {row[bad]} at coordinate {bad}: every entry must be finite, at most 1e150")


def mix(mixing: Vector, updates: Floats) -> Floats:
    """The product M X, accumulated in float64.

    Args:
        mixing: M, (n', n).
        updates: X, (n, d).

    Returns:
        A new (n', d) of updates' dtype.
    """
    result = np.empty((mixing.shape[0], updates.shape[1]), dtype=updates.dtype)
    for block in columns(*updates.shape):
        result[:, block] = mixing @ updates[:, block].astype(np.float64)
    return result


def sorted_columns(updates: Floats, rows: NDArray[np.intp] | None = None) -> Iterator[tuple[slice, Floats]]:
    """The columns in blocks, the values of each column ascending.

    Args:
        updates: (n, d), one update a row.
        rows: (m,), which rows to look at. Default: all n.

    Yields:
        Which columns, and a new (columns, m) array of updates' dtype.
    """
    rows = np.arange(updates.shape[0]) if rows is None else rows
    for block in columns(rows.size, updates.shape[1]):
        yield block, np.sort(updates[rows, block].T, axis=1)
