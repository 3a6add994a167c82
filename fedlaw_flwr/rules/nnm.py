"""Nearest-neighbour mixing: each update gives way to the mean of those nearest to it."""

import numpy as np

from fedlaw_flwr.core.blocks import Floats, Vector
from fedlaw_flwr.core.distances import squared_distances
from fedlaw_flwr.rules.interface import PreAggregation
from fedlaw_flwr.rules.matrix import check_matrix, mix


def neighbour_mixing(updates: Floats, f: int) -> Vector:
    """The matrix M with M_ij = 1/(n - f) for the n - f rows j nearest to row i, itself among them.

    Of rows equally near, the lower goes first.

    Args:
        updates: (n, d), one update a row.
        f: Rows assumed Byzantine, a count.

    Returns:
        M, (n, n).

    Raises:
        ValueError: Unless 0 <= f < n.
    """
    check_matrix(updates)
    n = updates.shape[0]
    if not 0 <= f < n:
        raise ValueError(f"n={n}, f={f}: n - f = {n - f} neighbours are mixed; f must be 0 to {n - 1}")
    nearest = np.argsort(squared_distances(updates), axis=1, kind="stable")[:, : n - f]
    mixing = np.zeros((n, n))
    np.put_along_axis(mixing, nearest, 1.0 / (n - f), axis=1)
    return mixing


def nnm(updates: Floats, f: int) -> Floats:
    """y_i = mean of the n - f rows nearest to x_i, itself included.

    Its theorem asks for n > 2f. Memory: n^2, and the result, a second matrix.
    Source: Allouah, Farhadkhani, Guerraoui, Gupta, Pinot and Stephan, AISTATS 2023 (Fixing by mixing).

    Args:
        updates: (n, d), one update a row.
        f: Rows assumed Byzantine, a count.

    Returns:
        (n, d), of updates' dtype.

    Raises:
        ValueError: Unless 0 <= f < n.
    """
    return mix(neighbour_mixing(updates, f), updates)


PRE_AGGREGATION = PreAggregation(
    summary="replace each update by the mean of the n-f nearest to it, before any rule",
    source="Allouah et al., AISTATS 2023",
)
