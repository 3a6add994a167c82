"""Squared distances between updates, right in the last rounds of a training as in the first."""

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.blocks import Floats, Vector, columns

# |x|^2 + |y|^2 - 2xy is wrong by about 1e-15 of its first two terms. Where less than this share of them is left,
# the distance is taken again from nearer by, so what is kept is good to about nine digits.
_CANCELLED = 1e-6


def squared_distances(updates: Floats) -> Vector:
    """D_ij = ||x_i - x_j||^2, from Gram matrices accumulated in float64.

    Rows that lie close together but far from 0 (an offset common to all, honest silos beside an attacker at 1e10) are
    taken again among themselves, about one of them. So an offset cancels before it is squared, identical rows are
    exactly 0 apart, and small whole numbers give exact distances.

    Memory: n^2 numbers a few times over and one block of columns; no float64 copy of the matrix. Time: n^2 d once; an
    attacker's extreme scale adds a pass for each factor of 1000 between it and the honest silos.

    Args:
        updates: The updates, (n, d). Hand in updates, never the parameters of trained models: in float32, theta - tiny
            has already lost the tiny part.

    Returns:
        A symmetric float64 array (n, n).
    """
    n, d = updates.shape
    squared = np.zeros((n, n))
    pending = [np.arange(n)]
    about_zero = True
    while pending:
        rows = pending.pop()
        gram = np.zeros((rows.size, rows.size))
        for block in columns(rows.size, d):
            x = (updates[:, block] if about_zero else updates[rows, block]).astype(np.float64)
            if not about_zero:
                x -= x[0].copy()
            gram += x @ x.T
        norms = gram.diagonal()
        scale = norms[:, None] + norms
        found = np.maximum(scale - 2 * gram, 0.0)
        np.fill_diagonal(found, 0.0)
        squared[np.ix_(rows, rows)] = found
        # A row at the centre is in no such group (its distances are the norms), so groups shrink and this ends.
        about_zero = False
        pending += [rows[group] for group in connected(found < _CANCELLED * scale)]
    return squared


def squared_distances_to(point: Vector, updates: Floats) -> Vector:
    """||x_i - point||^2, shape (n,), accumulated in float64; one block of columns of extra memory."""
    result = np.zeros(updates.shape[0])
    for block in columns(*updates.shape):
        x = updates[:, block] - point[block]
        result += np.einsum("ij,ij->i", x, x)
    return result


def connected(linked: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """The connected components of a relation.

    Args:
        linked: A symmetric relation, (m, m).

    Returns:
        The indices of each component that has two members or more, ascending.
    """
    m = linked.shape[0]
    label = np.arange(m)
    while True:
        lowest = np.minimum(label, np.where(linked, label, m).min(axis=1, initial=m))
        if np.array_equal(lowest, label):
            break
        label = lowest
    members = (np.flatnonzero(label == k) for k in np.unique(label))
    return [group for group in members if group.size > 1]
