"""The coordinate-wise median."""

import numpy as np

from fedlaw_flwr.core.blocks import Floats
from fedlaw_flwr.rules.interface import MAJORITY, ONE_HONEST, Aggregate, Call, Rule
from fedlaw_flwr.rules.matrix import check_before_pass, sorted_columns


def coordinate_median(updates: Floats) -> Floats:
    """Per coordinate, the median of the n values; of an even number, the mean of the middle two.

    Memory: one block of columns.
    Source: Yin, Chen, Ramchandran and Bartlett, ICML 2018, Definition 1.

    Args:
        updates: (n, d), one update a row.

    Returns:
        (d,), of updates' dtype.

    Raises:
        ValueError: For an empty or non-finite matrix.
    """
    check_before_pass(updates)
    n, d = updates.shape
    result = np.empty(d, dtype=updates.dtype)
    for block, values in sorted_columns(updates):
        middle = values[:, n // 2].astype(np.float64)
        result[block] = middle if n % 2 else 0.5 * (middle + values[:, n // 2 - 1])
    return result


def _run(updates: Floats, call: Call) -> Aggregate:
    return Aggregate(coordinate_median(updates))


RULE = Rule(
    summary="per coordinate, the median",
    source="Yin et al., ICML 2018, Definition 1",
    guarantee=MAJORITY,
    defined=ONE_HONEST,
    run=_run,
)
