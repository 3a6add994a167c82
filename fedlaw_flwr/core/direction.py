"""The sum of weighted updates at the trial model, gathered reply by reply; the same to the bit in any order."""

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fedlaw_flwr.core.blocks import Floats, Vector, add_multiple, add_steps

# Where updates are not clipped, those at the trial model are taken to stay within this many times the largest update at
# the model sent out.
_FAR = 1024.0
# How many steps a clip threshold has where z is kept in int32; 2**24 are left for what rounding adds.
_STEPS = float(2**31 - 2**24)
# Where a threshold lies outside of this, weights in steps are no float32 any more.
_LEAST, _MOST = 2.0**-90, 2.0**90


class Direction:
    """z = sum_i w_i delta~_i, shape (d,), where the weights w_i sum to 1 at most.

    Where float32 updates are clipped to C, z is kept in int32, in steps of C / (2**31 - 2**24): no number of z can be
    above C. Each of the m terms added is rounded to a step, and one of more than 2**24 steps first to float32, by about
    1e-7 of itself. Without such terms z is off by about sqrt(m d / 12) steps in its length: 1e-6 C for m = 200 and
    d = 178,110. Otherwise z is kept in float64, in steps of 2**-50 of what it may reach.

    Args:
        size: d, the number of parameters.
        clip: The longest an update may be; None where updates are not clipped.
        largest: The largest norm among the updates of exchange 1.
        dtype: The dtype of the updates. Default: float64.
    """

    def __init__(self, size: int, clip: float | None, largest: float, dtype: DTypeLike = np.float64) -> None:
        self._clip = clip
        self._quantum = _quantum(clip if clip is not None else _FAR * largest)
        self._total: Vector = np.empty(0)
        self._steps: NDArray[np.int32] | None = None
        if clip is not None and _LEAST < clip < _MOST and dtype == np.float32:
            self._steps = np.zeros(size, np.int32)
        else:
            self._total = np.zeros(size)

    def add(self, update: Floats, norm: float, weight: float) -> None:
        """Adds weight * update; the update is first scaled down to the clip threshold if its norm is above it.

        Args:
            update: The update delta~_i at the trial model, (d,).
            norm: Its l2 norm.
            weight: w_i.
        """
        shrink = 1.0 if self._clip is None or norm <= self._clip else self._clip / norm
        if self._steps is None or self._clip is None:
            add_multiple(self._total, update, weight * shrink, self._quantum)
        else:
            add_steps(self._steps, update, weight * shrink * (_STEPS / self._clip))

    def over(self, weight: float) -> Floats | None:
        """z divided by the weight that was added, in float32 or float64; None where that weight is 0. Called once."""
        if not weight > 0:
            return None
        if self._steps is None or self._clip is None:
            self._total /= weight
            return self._total
        # In the memory of the steps themselves, number by number: no second vector.
        z = self._steps.view(np.float32)
        np.copyto(z, self._steps, casting="same_kind")
        z *= np.float32(self._clip / (_STEPS * weight))
        return z


def _quantum(limit: float) -> float:
    """A power of two fine enough to lose nothing and coarse enough that sums of its multiples are exact in float64.

    Contributions to z have norms of at most w_i limit, so their sums stay below limit. In multiples of limit / 2**50
    they are then exact in any order, and the order in which replies arrive cannot change a bit of the result.
    """
    return float(2.0 ** (np.ceil(np.log2(limit)) - 50)) if limit > 0 else 0.0
