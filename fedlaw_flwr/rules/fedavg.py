"""The plain mean: what federated averaging does with updates, and what no attacker needs more than one silo to move."""

import numpy as np

from fedlaw_flwr.core.blocks import Floats, Vector
from fedlaw_flwr.rules.interface import ONE_HONEST, Aggregate, Call, Rule
from fedlaw_flwr.rules.matrix import check_before_pass, check_matrix


def mean(updates: Floats) -> Floats:
    """The plain mean, (1/n) sum_i x_i.

    Every silo counts alike: a weight by the number of examples is a number the silo claims (`capped_sizes` bounds what
    a claim buys). Groups of 16 rows are summed in updates' dtype, the groups in float64.
    Source: McMahan et al., AISTATS 2017, Algorithm 1, with equal weights.

    Args:
        updates: (n, d), one update a row.

    Returns:
        (d,), of updates' dtype.

    Raises:
        ValueError: For an empty or non-finite matrix.
    """
    return _run(updates).update


def capped_sizes(sizes: Vector, cap: float) -> Vector:
    """w_i = min(n_i, c) / sum_j min(n_j, c).

    These are McMahan et al.'s n_i / sum_j n_j where c is above all n_i; b liars hold at most b c of the sum.

    Args:
        sizes: n, (m,), the examples each silo claims.
        cap: c, above 0, in examples.

    Returns:
        w, (m,), which sums to 1.

    Raises:
        ValueError: For a size that is negative or not finite, and where all are 0.
    """
    if not (np.all(np.isfinite(sizes)) and np.all(sizes >= 0) and sizes.any()):
        raise ValueError(f"sizes={sizes.tolist()}: finite numbers from 0 up are expected, one of them above 0")
    capped: Vector = np.minimum(sizes, cap)
    return capped / float(capped.sum())


def _run(updates: Floats, call: Call | None = None) -> Aggregate:
    if call and call.settings.size_cap:
        if call.sizes is None:
            raise ValueError(f"size_cap={call.settings.size_cap}: the silos' sizes are needed")
        weights = capped_sizes(call.sizes, call.settings.size_cap)
        check_matrix(updates)
        result = Aggregate.weighted(updates, weights)
        return Aggregate(result.update, weights, weights > 0)
    check_before_pass(updates)
    result = Aggregate.mean_of(updates, np.ones(updates.shape[0], dtype=bool))
    if not np.isfinite(result.update).all():
        check_matrix(updates)
    return result


RULE = Rule(
    summary="the plain mean; no defence",
    source="McMahan et al., AISTATS 2017, Algorithm 1, equal weights",
    guarantee=ONE_HONEST,
    defined=ONE_HONEST,
    run=_run,
)
