"""RFA: the geometric median, approached by a few smoothed Weiszfeld steps."""

import numpy as np

from fedlaw_flwr.core.blocks import Floats
from fedlaw_flwr.rules.interface import MAJORITY, ONE_HONEST, Aggregate, Call, Rule
from fedlaw_flwr.rules.matrix import check_before_pass
from fedlaw_flwr.rules.passes import mean_and_distances


def rfa(updates: Floats, nu: float = 1e-6, iterations: int = 3) -> Floats:
    """z_{r+1} = sum_i b_i x_i / sum_i b_i, b_i = 1 / max(nu, ||x_i - z_r||), from the mean, iterations times.

    The steps approach argmin_z sum_i ||z - x_i||. Silos count alike, none by the size it claims, where the paper weighs
    them by it.

    Memory: two vectors and a block of columns.
    Source: Pillutla, Kakade and Harchaoui, IEEE TSP 2022, smoothed Weiszfeld; started at the mean as in its authors'
    code, which stops early and whose main runs take 2 steps.

    Args:
        updates: (n, d), one update a row.
        nu: The smoothing, in the units of updates, above 0. Default: 1e-6.
        iterations: Steps. Default: 3.

    Returns:
        (d,), of updates' dtype.

    Raises:
        ValueError: For nu <= 0 or iterations < 1.
    """
    return _weiszfeld(updates, nu, iterations).update


def _weiszfeld(updates: Floats, nu: float, iterations: int) -> Aggregate:
    check_before_pass(updates)
    if not (np.isfinite(nu) and nu > 0 and iterations >= 1):
        raise ValueError(f"nu={nu}, iterations={iterations}: nu must be finite and above 0, iterations at least 1")
    n = updates.shape[0]
    weights = np.full(n, 1.0 / n)
    for _ in range(iterations):
        _, squared = mean_and_distances(weights, updates)
        weights = 1.0 / np.maximum(nu, np.sqrt(squared))
        weights /= weights.sum()
    return Aggregate.weighted(updates, weights)


def _run(updates: Floats, call: Call) -> Aggregate:
    return _weiszfeld(updates, call.settings.rfa_nu, call.settings.rfa_iterations)


RULE = Rule(
    summary="the geometric median by a few smoothed Weiszfeld steps",
    source="Pillutla et al., IEEE TSP 2022",
    guarantee=MAJORITY,
    defined=ONE_HONEST,
    run=_run,
)
