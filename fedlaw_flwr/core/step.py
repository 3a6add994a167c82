"""A scale in the place of the silos' step, where nobody names one: clients with Adam, momentum, a schedule, no step."""

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 1.0
"""The alignment term of the median update with itself; chosen by `benchmarks.optimisers`, on a seed of its own."""


def step_like(norms: NDArray[np.float64], beta: float, alignment: float = ALIGNMENT) -> float | None:
    """The alpha at which (beta / alpha) |delta|^2 = `alignment` for the median norm |delta| of the updates.

    Then the alignment term of FedLAW's score, (beta / alpha) <delta_i, z>, is about `alignment` for an update like the
    others, whatever optimiser made them and however long they are: scaling every update changes no score. Of m norms
    less than half of which are hostile, the median lies between two honest ones.

    Args:
        norms: The l2 norms of the updates of the first round, (m,).
        beta: The step of the weights.
        alignment: The alignment term wanted. Default: 1.0.

    Returns:
        alpha; None where the median update is 0, or is so small or large that alpha is no finite number above 0.
    """
    with np.errstate(over="ignore"):
        alpha = beta * float(np.median(norms)) ** 2 / alignment if np.median(norms) < 1e150 else np.inf
    return alpha if np.isfinite(alpha) and alpha > 0 else None
