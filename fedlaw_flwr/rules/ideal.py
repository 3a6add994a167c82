"""The mean of the honest updates, to compare every rule with, in a simulation that knows who is honest."""

import numpy as np

from fedlaw_flwr.core.blocks import Floats
from fedlaw_flwr.rules.interface import ONE_HONEST, Aggregate, Call, Rule
from fedlaw_flwr.rules.matrix import Mask, check_matrix


def ideal(updates: Floats, honest: Mask) -> Floats:
    """The mean of the honest rows, (1/|H|) sum_{i in H} x_i.

    Args:
        updates: (n, d), one update a row.
        honest: (n,), the mask of H.

    Returns:
        (d,), of updates' dtype.

    Raises:
        ValueError: If the mask does not fit or names no one.
    """
    return _mean_of_honest(updates, honest).update


def _mean_of_honest(updates: Floats, honest: Mask | None) -> Aggregate:
    check_matrix(updates)
    if honest is None:
        raise ValueError("ideal needs to know who is honest, so it runs in simulation only")
    mask = np.array(honest, dtype=bool)
    if mask.shape != (updates.shape[0],):
        raise ValueError(f"honest has shape {mask.shape}: one entry a row is expected, shape ({updates.shape[0]},)")
    if not mask.any():
        raise ValueError(f"none of the {mask.size} rows is honest: there is nothing to average")
    return Aggregate.mean_of(updates, mask)


def _run(updates: Floats, call: Call) -> Aggregate:
    return _mean_of_honest(updates, call.honest)


RULE = Rule(
    summary="the mean of the honest updates, to compare with: it must know who is honest, so in simulation only",
    source="definition",
    guarantee=ONE_HONEST,
    defined=ONE_HONEST,
    run=_run,
    simulated=True,
)
