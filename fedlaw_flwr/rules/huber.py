"""Huber: the point with the least sum of Huber losses, quadratic near it and linear far away."""

import numpy as np

from fedlaw_flwr.core.blocks import Floats
from fedlaw_flwr.rules.cw_median import coordinate_median
from fedlaw_flwr.rules.interface import MAJORITY, ONE_HONEST, Aggregate, Call, Rule
from fedlaw_flwr.rules.passes import distances_to, mean_and_distances

# A step below this share of the threshold moves the result less than float32 and the data's noise do.
_SETTLED = 1e-6


def huber(updates: Floats, threshold: float, iterations: int = 100) -> Floats:
    """argmin_z sum_i phi(||z - x_i||), phi(u) = u^2/2 up to T = threshold and T u - T^2/2 beyond.

    Solved by the Weiszfeld-like steps z <- sum_i b_i x_i / sum_i b_i, b_i = min(1, T / ||z - x_i||), from the
    coordinate-wise median until a step is shorter than 1e-6 T, or than updates' dtype can tell
    (2**-23 of the mean distance in float32), at most iterations times; start and stop are ours. The
    loss is convex, so the start decides only how many steps it takes. All silos share one T and count alike, the
    paper's case of equal sizes.

    Memory: three vectors and a block of columns.
    Source: Zhao, Yu and Wan, AAAI 2024 (A Huber loss minimization approach to Byzantine robust federated learning).

    Args:
        updates: (n, d), one update a row.
        threshold: T, in the units of updates, above 0.
        iterations: The most steps. Default: 100.

    Returns:
        (d,), of updates' dtype.

    Raises:
        ValueError: For T <= 0 or iterations < 1.
    """
    return _minimise(updates, threshold, iterations).update


def _minimise(updates: Floats, threshold: float, iterations: int) -> Aggregate:
    if not (np.isfinite(threshold) and threshold > 0 and iterations >= 1):
        raise ValueError(
            f"threshold={threshold}, iterations={iterations}: the threshold must be finite and above 0, "
            "iterations at least 1"
        )
    z = coordinate_median(updates).astype(np.float64)
    distance = np.sqrt(distances_to(z, updates))
    for _ in range(iterations):
        weights = threshold / np.maximum(threshold, distance)
        weights /= weights.sum()
        before, (z, squared) = z, mean_and_distances(weights, updates)
        distance = np.sqrt(squared)
        rounding = float(np.finfo(updates.dtype).eps) * float(weights @ distance)
        if float(np.linalg.norm(z - before)) <= max(_SETTLED * threshold, rounding):
            break
    return Aggregate(z.astype(updates.dtype), weights)


def _run(updates: Floats, call: Call) -> Aggregate:
    return _minimise(updates, call.settings.huber_threshold, call.settings.huber_iterations)


RULE = Rule(
    summary="the point with the least sum of Huber losses of its distances to the updates",
    source="Zhao, Yu and Wan, AAAI 2024",
    guarantee=MAJORITY,
    defined=ONE_HONEST,
    run=_run,
)
