"""The plain mean: what federated averaging does with updates, and what no attacker needs more than one silo to move."""

import numpy as np

from fedlaw_flwr.blocks import Floats
from fedlaw_flwr.rules.interface import ONE_HONEST, Aggregate, Call, Rule
from fedlaw_flwr.rules.matrix import check_matrix


def mean(updates: Floats) -> Floats:
    """(1/n) sum_i x_i of updates (n, d), shape (d,).

    Every silo counts alike: a weight by the number of examples is a number the silo claims. Accumulated in float64
    without a copy of the matrix. Raises ValueError for an empty or non-finite matrix. Source: McMahan et al.,
    AISTATS 2017, Algorithm 1, with equal weights.
    """
    check_matrix(updates)
    return _run(updates).update


def _run(updates: Floats, call: Call | None = None) -> Aggregate:
    return Aggregate.mean_of(updates, np.ones(updates.shape[0], dtype=bool))


RULE = Rule(
    summary="the plain mean; no defence",
    source="McMahan et al., AISTATS 2017, Algorithm 1, equal weights",
    guarantee=ONE_HONEST,
    defined=ONE_HONEST,
    run=_run,
)
