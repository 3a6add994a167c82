"""The sum of weighted updates at the trial model, gathered reply by reply; the same to the bit in any order."""

import numpy as np

from fedlaw_flwr.core.blocks import Floats, Vector, add_multiple

# Where updates are not clipped, those at the trial model are taken to stay within this many times the largest update at
# the model sent out.
_FAR = 1024.0


class Direction:
    """z = sum_i w_i delta~_i, shape (d,), in float64.

    Args:
        size: d, the number of parameters.
        clip: The longest an update may be; None where updates are not clipped.
        largest: The largest norm among the updates of exchange 1.
    """

    def __init__(self, size: int, clip: float | None, largest: float) -> None:
        self._total = np.zeros(size)
        self._clip = clip
        self._quantum = _quantum(clip if clip is not None else _FAR * largest)

    def add(self, update: Floats, norm: float, weight: float) -> None:
        """Adds weight * update; the update is first scaled down to the clip threshold if its norm is above it.

        Args:
            update: The update delta~_i at the trial model, (d,).
            norm: Its l2 norm.
            weight: w_i.
        """
        shrink = 1.0 if self._clip is None or norm <= self._clip else self._clip / norm
        add_multiple(self._total, update, weight * shrink, self._quantum)

    def over(self, weight: float) -> Vector | None:
        """z divided by the weight that was added; None where that is 0."""
        if not weight > 0:
            return None
        self._total /= weight
        return self._total


def _quantum(limit: float) -> float:
    """A power of two fine enough to lose nothing and coarse enough that sums of its multiples are exact in float64.

    Contributions to z have norms of at most w_i limit, so their sums stay below limit. In multiples of limit / 2**50
    they are then exact in any order, and the order in which replies arrive cannot change a bit of the result.
    """
    return float(2.0 ** (np.ceil(np.log2(limit)) - 50)) if limit > 0 else 0.0
