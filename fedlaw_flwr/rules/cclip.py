"""Centered clipping: the mean of the updates, each clipped to a ball about the last round's result."""

import numpy as np

from fedlaw_flwr.core.blocks import Floats, Vector
from fedlaw_flwr.rules.interface import MAJORITY, ONE_HONEST, Aggregate, Call, Rule
from fedlaw_flwr.rules.matrix import check_before_pass
from fedlaw_flwr.rules.passes import distances_to, weighted_rows


def cclip(updates: Floats, center: Vector, tau: float, iterations: int = 1) -> Floats:
    """v_{l+1} = v_l + (1/n) sum_i (x_i - v_l) min(1, tau / ||x_i - v_l||), from v_0 = center, iterations times.

    Not translation equivariant unless the centre moves too, and no weighted mean of rows: the centre keeps a share.
    The paper's theorem covers f/n <= 0.1; its use does not stop there, and 2f < n, asked for here, is weaker.

    Memory: two vectors and a block of columns.
    Source: Karimireddy, He and Jaggi, ICML 2021 (Learning from history), centered clipping; the first centre, 0, is its
    authors' code's.

    Args:
        updates: (n, d), one update a row.
        center: (d,), usually the result of the round before.
        tau: The clipping radius, in the units of updates, above 0.
        iterations: Clipping steps. Default: 1.

    Returns:
        v_iterations, (d,), of updates' dtype.

    Raises:
        ValueError: For tau <= 0, iterations < 1 or a centre that does not fit.
    """
    check_before_pass(updates)
    n, d = updates.shape
    if not (np.isfinite(tau) and tau > 0 and iterations >= 1):
        raise ValueError(f"tau={tau}, iterations={iterations}: tau must be finite and above 0, iterations at least 1")
    v = np.array(center, dtype=np.float64)
    if v.shape != (d,) or not np.isfinite(v).all():
        raise ValueError(f"center has shape {v.shape}: a finite vector of shape ({d},) is expected")
    for _ in range(iterations):
        distance = np.sqrt(distances_to(v, updates))
        share = tau / np.maximum(distance, tau) / n
        v = (1.0 - share.sum()) * v + weighted_rows(share, updates)
    return v.astype(updates.dtype)


def _run(updates: Floats, call: Call) -> Aggregate:
    center = np.zeros(updates.shape[1]) if call.center is None else call.center
    return Aggregate(cclip(updates, center, call.settings.cclip_tau, call.settings.cclip_iterations))


RULE = Rule(
    summary="the mean of the updates, each clipped to radius tau about the last round's result",
    source="Karimireddy, He and Jaggi, ICML 2021",
    guarantee=MAJORITY,
    defined=ONE_HONEST,
    run=_run,
    remembers=True,
)
