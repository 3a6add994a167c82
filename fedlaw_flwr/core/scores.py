"""The score of every silo, FedLAW Algorithm 2, and the weights of least loss, Appendix B."""

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.projection import check_simplex

Vector = NDArray[np.float64]

# Scores are kept within +- this: unclipped updates can exceed what float64 holds.
_LARGEST = 1e30


def score(w: Vector, inner: Vector, losses: Vector, alpha: float, beta: float) -> Vector:
    """h = w + (beta / alpha) Delta z - beta f~ (FedLAW, Algorithm 2, in delta form), (m,).

    With delta = alpha g this is w + alpha beta G' (G~ w) - beta f~.

    Args:
        w: The old weights, (m,).
        inner: Delta z, (m,): the inner product of every silo's delta of exchange 1 with z = sum_i w_i delta~_i of
            exchange 2. So the m x m product Delta Delta~' is never formed.
        losses: f~, the losses at the trial model, (m,).
        alpha: The step of the silos' local training.
        beta: The step of the weights.
    """
    return w + (beta / alpha) * inner - beta * losses


def least_loss(losses: Vector, s: int, t: float) -> Vector:
    """argmin over w in D(s, t) of sum_i w_i f_i (FedLAW, Appendix B, BSUM): a linear programme with a known vertex.

    The silos of least loss take t each until the weight is spent. Of equal losses the first comes first.

    Args:
        losses: The losses f, (m,).
        s: How many silos may carry weight; s > m means m.
        t: The cap of one silo's weight, read as at least 1/s.

    Returns:
        The weights, (m,).

    Raises:
        ValueError: If D(s, t) is empty.
    """
    check_simplex(losses.size, s, t)
    weights = np.zeros(losses.size)
    s = min(s, losses.size)
    cap = max(t, 1.0 / s)
    for k, i in enumerate(np.argsort(losses, kind="stable")[:s]):
        left = 1.0 - k * cap
        if left <= 1e-12:  # what rounding leaves of 1 is no weight, and makes nobody a carrier
            break
        weights[i] = min(cap, left)
    return weights


def finite(scores: Vector) -> Vector:
    """The scores in [-1e30, 1e30], NaN read as the least score there is."""
    return np.nan_to_num(scores, nan=-_LARGEST, posinf=_LARGEST, neginf=-_LARGEST)
