"""How far colluders may step from their honest mean: the search that Min-Max and Min-Sum share."""

from collections.abc import Callable
from math import sqrt

import numpy as np

from fedlaw_flwr.attacks.base import Coalition, Vector

_TAU = 1e-5


class Spread:
    """Honest updates as these attacks see them: their mean, a perturbation, and squared distances.

    Args:
        coalition: Whose honest updates g_i, (m, d), they are.

    Attributes:
        mean: mu, (d,).
        p: The perturbation -std, (d,): Shejwalkar and Houmansadr's "inverse standard deviation", one of the three
            directions they try. Its length (1/m or 1/(m-1)) is no matter, as gamma scales it.
        pairwise: |g_i - g_j|^2, (m, m).
    """

    def __init__(self, coalition: Coalition) -> None:
        self.mean = coalition.mean
        self.p = -coalition.deviation
        centred = coalition.updates - self.mean
        gram = centred @ centred.T
        squares = np.diag(gram)
        self.pairwise = np.maximum(squares[:, None] + squares - 2 * gram, 0)  # (m, m) |g_i - g_j|^2
        self._squares, self._along, self._length = squares, centred @ self.p, float(self.p @ self.p)

    def distances(self, gamma: float) -> Vector:
        """|mu + gamma p - g_i|^2 for each i, (m,)."""
        result: Vector = self._squares - 2 * gamma * self._along + gamma**2 * self._length
        return result


def largest_gamma(members: int, allowed: Callable[[float], bool]) -> float:
    """The largest gamma that is allowed, to 1e-5, where everything from 0 up to it is.

    Shejwalkar and Houmansadr 2021 (NDSS): the halving search, its steps and 1e-5 those of their code, which starts at
    gamma = 10. Here it starts at 3 sqrt(m), which reaches to 6 sqrt(m): by the triangle inequality no more than
    3 sqrt(m) deviations are ever within their bounds.

    Args:
        members: m, how many honest updates are known.
        allowed: Whether a gamma is within the attack's bound.
    """
    gamma = step = 3 * sqrt(members)
    succeeded = 0.0
    while abs(succeeded - gamma) > _TAU:
        step /= 2
        if allowed(gamma):
            succeeded = gamma
            gamma += step
        else:
            gamma -= step
    return succeeded
