"""What FedLAW does to updates and losses before it believes them (FedLAW, Appendix C, Assumption E)."""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# Fewer losses than this say nothing about which of them is out of line: the median of 7 is moved by 3.
_FEWEST_LOSSES = 8
# The usual three sigmas; 1.4826 makes the MAD of a normal sample its standard deviation.
_FENCE = 3.0
_NORMAL_MAD = 1.4826
# Honest losses can agree so closely that their MAD is nothing; a twentieth of the median is never "far below".
_SMALLEST_SPREAD = 0.05


def clip_threshold(norms: Vector, byzantine: int) -> float:
    """The (m - b')-th smallest of the m norms, b' = byzantine: the largest norm an update may keep.

    With at most b' attackers among the m, at least one of the m - b' smallest norms or one above them is honest,
    so the threshold never exceeds the largest honest norm (FedLAW, Assumption E1), whoever the honest are. It can
    clip honest silos when attackers send tiny updates. Raises ValueError unless 0 <= b' < m.
    """
    if not 0 <= byzantine < norms.size:
        raise ValueError(f"b'={byzantine} of m={norms.size} updates: at least one of them must be honest")
    return float(np.sort(norms)[norms.size - byzantine - 1])


def raise_low_losses(losses: Vector) -> tuple[Vector, NDArray[np.bool_]]:
    """Losses (m,) with those anomalously low raised to the fence, and which they were (FedLAW, Appendix C).

    fence = median - 3 max(1.4826 MAD, |median| / 20), one-sided: a silo gains nothing from reporting less than
    the fence, and loses nothing from a high honest loss. Below 8 losses nothing is raised. A raised silo stays.
    """
    if losses.size < _FEWEST_LOSSES:
        return losses.copy(), np.zeros(losses.size, dtype=bool)
    median = float(np.median(losses))
    mad = float(np.median(np.abs(losses - median)))
    fence = median - _FENCE * max(_NORMAL_MAD * mad, _SMALLEST_SPREAD * abs(median))
    low = losses < fence
    return np.where(low, fence, losses), low
