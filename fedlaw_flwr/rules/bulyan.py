"""Bulyan: Krum, again and again, picks a pool; then each coordinate is averaged near the pool's median."""

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.blocks import Floats, Vector
from fedlaw_flwr.core.distances import squared_distances
from fedlaw_flwr.rules.interface import Aggregate, Call, Rows, Rule
from fedlaw_flwr.rules.krum import DEFINED
from fedlaw_flwr.rules.matrix import check_matrix, sorted_columns


def bulyan(
    updates: Floats, f: int, pool: int | None = None, inner: int | None = None, average: int | None = None
) -> Floats:
    """Bulyan of Krum: select theta = n - 2f rows, then average per coordinate the n - 4f values nearest their median.

    Stage one takes Krum's choice, removes it, and scores the r rows that remain anew over r - f - 2 neighbours, until
    theta are taken. It counts at least one neighbour: the last of f = 1 would else have none; that floor is ours.

    Stage two's median is a value of the pool, since the paper has it minimise sum |y - m| over the pool's values. Of an
    even number both middle ones do, and the lower is taken. Of two values equally near it the smaller counts as nearer.

    Equivariant under permutations except where scores tie. For f = 1 and 2 they always do: the last picks go by one
    neighbour, which makes the nearest two equal.

    The proof asks for n >= 4f + 3. pool, inner and average leave it behind, as the FedLAW paper does at 30 and 40 %
    attackers. FedLAW names two numbers, not their places: docs/research/results.md tries them.

    Memory: n^2, and one block of columns.
    Source: El Mhamdi, Guerraoui and Rouault, ICML 2018 (The hidden vulnerability of distributed learning in
    Byzantium); FedLAW, I.2.

    Args:
        updates: (n, d), one update a row.
        f: Rows assumed Byzantine, a count.
        pool: Replaces theta. Default: n - 2f.
        inner: Replaces the number of neighbours, up to the r - 1 there are. Default: r - f - 2.
        average: Replaces the number of values averaged; where it is 1, the median of the pool remains. Default:
            max(1, pool - 2f).

    Returns:
        (d,), of updates' dtype.

    Raises:
        ValueError: If stage two has no values left and pool is not given, if pool is not 1 to n, or if fewer rows are
            selected than are to be averaged.
    """
    return _select_and_average(updates, f, pool, inner, average).update


def _select_and_average(updates: Floats, f: int, pool: int | None, inner: int | None, average: int | None) -> Aggregate:
    check_matrix(updates)
    n = updates.shape[0]
    if f < 0 or (pool is None and n - 4 * f < 1):
        raise ValueError(f"n={n}, f={f}: Bulyan averages n - 4f = {n - 4 * f} values; give pool to go beyond its proof")
    theta = n - 2 * f if pool is None else pool
    if not 1 <= theta <= n:
        raise ValueError(f"pool={theta}: Bulyan selects 1 to n={n} rows")
    beta = max(1, theta - 2 * f) if average is None else average
    if not 1 <= beta <= theta:
        raise ValueError(f"average={average}: Bulyan averages 1 to pool={theta} values")
    selected = _iterated_krum(squared_distances(updates), f, theta, inner)
    update = _near_the_median(updates, selected, beta)
    return Aggregate(update, kept=np.isin(np.arange(n), selected))


def _iterated_krum(squared: Vector, f: int, theta: int, inner: int | None) -> NDArray[np.intp]:
    """theta rows, each Krum's choice among those not yet taken."""
    n = squared.shape[0]
    np.fill_diagonal(squared, np.inf)
    order = np.argsort(squared, axis=1, kind="stable")
    nearest = np.take_along_axis(squared, order, axis=1)
    left = np.ones(n, dtype=bool)
    chosen = np.empty(theta, dtype=np.intp)
    for step in range(theta):
        remaining = n - step
        wanted = max(1, remaining - f - 2) if inner is None else inner
        counted = left[order]
        counted[:, -1] = False  # each row itself, infinitely far above only to come last
        counted &= np.cumsum(counted, axis=1) <= wanted
        scores = np.where(left, np.where(counted, nearest, 0.0).sum(axis=1), np.inf)
        chosen[step] = np.argmin(scores)
        left[chosen[step]] = False
    return chosen


def _near_the_median(updates: Floats, selected: NDArray[np.intp], beta: int) -> Floats:
    """Per coordinate, the mean of the beta selected values nearest their (lower) median."""
    result = np.empty(updates.shape[1], dtype=updates.dtype)
    spare = selected.size - beta
    for block, ascending in sorted_columns(updates, selected):
        median = ascending[:, (selected.size - 1) // 2, None].astype(np.float64)
        # Of ascending values the nearest ones lie side by side. The window of beta starts at the lowest value and moves
        # up for as long as the value it leaves is farther from the median than the one it gains.
        left, gained = median - ascending[:, :spare], ascending[:, beta:] - median
        start = np.count_nonzero(left > gained, axis=1)
        window = start[:, None] + np.arange(beta)
        result[block] = np.take_along_axis(ascending, window, axis=1).mean(axis=1, dtype=np.float64)
    return result


def _run(updates: Floats, call: Call) -> Aggregate:
    n, settings = updates.shape[0], call.settings
    pool, inner = settings.bulyan_pool, settings.bulyan_inner
    if n < RULE.guarantee.least(settings.f):
        pool = n - 2 * settings.f if pool is None else pool
        inner = n - settings.f - 2 if inner is None else inner
    return _select_and_average(updates, settings.f, pool, inner, settings.bulyan_average)


RULE = Rule(
    summary="Krum repeated selects n-2f updates; per coordinate, the mean of the n-4f values nearest the median",
    source="El Mhamdi et al., ICML 2018",
    guarantee=Rows("4f + 3", lambda f: 4 * f + 3),
    defined=DEFINED,
    run=_run,
)
