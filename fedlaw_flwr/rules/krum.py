"""Krum: the one update that lies nearest its nearest others."""

import numpy as np

from fedlaw_flwr.core.blocks import Floats, Vector
from fedlaw_flwr.core.distances import squared_distances
from fedlaw_flwr.rules.interface import Aggregate, Call, Rows, Rule
from fedlaw_flwr.rules.matrix import check_matrix

# n - f - 2 >= 1: at least one neighbour to be near to.
DEFINED = Rows("f + 3", lambda f: f + 3)
GUARANTEE = Rows("2f + 3", lambda f: 2 * f + 3)


def krum_scores(updates: Floats, f: int) -> Vector:
    """s_i = sum of ||x_i - x_j||^2 over the n - f - 2 OTHER rows j nearest to i.

    Args:
        updates: (n, d), one update a row.
        f: Rows assumed Byzantine, a count.

    Returns:
        s, (n,).

    Raises:
        ValueError: If n < f + 3, where n - f - 2 is no row at all.
    """
    check_matrix(updates)
    n = updates.shape[0]
    if not 0 <= f <= n - 3:
        raise ValueError(f"n={n}, f={f}: Krum sums over n - f - 2 = {n - f - 2} neighbours; f must be 0 to {n - 3}")
    squared = squared_distances(updates)
    np.fill_diagonal(squared, np.inf)
    scores: Vector = np.sort(squared, axis=1)[:, : n - f - 2].sum(axis=1)
    return scores


def krum(updates: Floats, f: int) -> Floats:
    """x_i with i = argmin_i s_i, s_i = sum of ||x_i - x_j||^2 over the n - f - 2 rows j != i nearest to i.

    Its proof asks for n >= 2f + 3; the formula needs n >= f + 3. Of equal scores the lowest row wins: equivariant under
    permutations except there (n = f + 3 leaves one neighbour and always has a tie, between the nearest two).

    Memory: that of the distances, n^2.
    Source: Blanchard, El Mhamdi, Guerraoui and Stainer, NeurIPS 2017, the Krum function.

    Args:
        updates: (n, d), one update a row.
        f: Rows assumed Byzantine, a count.

    Returns:
        x_i, a new (d,).

    Raises:
        ValueError: If n < f + 3.
    """
    chosen: Floats = updates[np.argmin(krum_scores(updates, f))]
    return chosen.copy()


def _run(updates: Floats, call: Call) -> Aggregate:
    chosen = np.argmin(krum_scores(updates, call.settings.f))
    return Aggregate.mean_of(updates, np.arange(updates.shape[0]) == chosen)


RULE = Rule(
    summary="the one update nearest (in squared distance) its n-f-2 nearest others",
    source="Blanchard et al., NeurIPS 2017",
    guarantee=GUARANTEE,
    defined=DEFINED,
    run=_run,
)
