"""CAF: weights are taken off whoever stands out along the direction in which the updates vary most."""

import numpy as np

from fedlaw_flwr.core.blocks import Floats, Vector
from fedlaw_flwr.core.distances import squared_distances
from fedlaw_flwr.rules.interface import MAJORITY, Aggregate, Call, Rule
from fedlaw_flwr.rules.matrix import check_matrix


def caf(updates: Floats, f: int) -> Floats:
    """The covariance-bound agnostic filter: the weighted mean with the least top eigenvalue met on the way down.

    From c = 1, while sum c > n - 2f:

        mu = sum c_i x_i / sum c
        (lambda, v) = the top eigenpair of the covariance sum c_i (x_i - mu)(x_i - mu)' / sum c
        t_i = ((x_i - mu)'v)^2
        c_i <- c_i (1 - t_i / max_j t_j)

    The maximum is over rows that still have weight, so each step silences one for good. The eigenpairs are exact, found
    in the span of the rows (n^3 a step).

    Memory: n^2 and a block of columns.
    Source: Allouah, Guerraoui and Stephan, ICML 2025 (Towards trustworthy federated learning with untrusted
    participants), not read itself: the steps are those of ByzFL's documentation, by two of its authors and others.
    ByzFL takes max_j over all n rows, and in its code (0.0.11) one power step from a random vector for the eigenpair.

    Args:
        updates: (n, d), one update a row.
        f: Rows assumed Byzantine, a count.

    Returns:
        The mu of the least lambda, (d,), of updates' dtype; for f = 0 the mean.

    Raises:
        ValueError: Unless n > 2f.
    """
    return _filter(updates, f).update


def _filter(updates: Floats, f: int) -> Aggregate:
    check_matrix(updates)
    n = updates.shape[0]
    if not 0 <= 2 * f < n:
        raise ValueError(f"n={n}, f={f}: CAF needs n > 2f; f must be 0 to {(n - 1) // 2}")
    squared = squared_distances(updates)
    c = np.ones(n)
    best, least = c / n, np.inf
    while c.sum() > n - 2 * f:
        eigenvalue, projected = _top_direction(squared, c)
        if eigenvalue < least:
            best, least = c / c.sum(), eigenvalue
        largest = projected.max()
        if not largest > 0:  # the rows that remain are one and the same
            break
        c = np.where(c > 0, c * np.maximum(0.0, 1.0 - projected / largest), 0.0)
    return Aggregate.weighted(updates, best)


def _top_direction(squared: Vector, c: Vector) -> tuple[float, Vector]:
    """The covariance's largest eigenvalue, and ((x_i - mu)'v)^2 for the rows with weight (0 for the others).

    With Y the centred rows and p = c / sum c, the covariance Y' diag(p) Y has the eigenvalues of the Gram matrix
    B = diag(sqrt p) Y Y' diag(sqrt p): for Bu = lambda u, v = Y' diag(sqrt p) u / sqrt(lambda), hence
    (x_i - mu)'v = sqrt(lambda) u_i / sqrt(p_i). Rows without weight are left out, so they cannot blur the rest.
    """
    active = np.flatnonzero(c > 0)
    p = c[active] / c.sum()
    inner = squared[np.ix_(active, active)]
    about = inner @ p
    gram = -0.5 * (inner - about[:, None] - about + p @ about)
    root = np.sqrt(p)
    values, vectors = np.linalg.eigh(root[:, None] * gram * root)
    projected = np.zeros(c.size)
    projected[active] = max(values[-1], 0.0) * vectors[:, -1] ** 2 / p
    return float(values[-1]), projected


def _run(updates: Floats, call: Call) -> Aggregate:
    return _filter(updates, call.settings.f)


RULE = Rule(
    summary="weights fall for updates that stand out along the direction of greatest variance",
    source="Allouah, Guerraoui and Stephan, ICML 2025 (CAF), as ByzFL documents it",
    guarantee=MAJORITY,
    defined=MAJORITY,
    run=_run,
)
