"""The loss filter: reported losses far below the others are raised (FedLAW, Appendix C)."""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# Fewer losses than this say nothing about which of them is out of line: the median of 7 is moved by 3.
_FEWEST_LOSSES = 8
# 1.4826 makes the MAD of a normal sample its standard deviation.
_NORMAL_MAD = 1.4826
# Honest losses can agree so closely that their MAD is nothing; a twentieth of the median is never "far below".
_SMALLEST_SPREAD = 0.05


def raise_low_losses(losses: Vector, width: float = 3.0) -> tuple[Vector, NDArray[np.bool_]]:
    """Losses (m,) with those anomalously low raised to the fence, and which they were (FedLAW, Appendix C).

    fence = median - width max(1.4826 MAD, |median| / 20), one-sided: a silo gains nothing from reporting less than
    the fence, and loses nothing from a high honest loss. width 3 is the usual three sigmas; at 0 no loss below the
    median is believed. Below 8 losses nothing is raised. A raised silo stays.
    """
    if losses.size < _FEWEST_LOSSES:
        return losses.copy(), np.zeros(losses.size, dtype=bool)
    median = float(np.median(losses))
    mad = float(np.median(np.abs(losses - median)))
    fence = median - width * max(_NORMAL_MAD * mad, _SMALLEST_SPREAD * abs(median))
    low = losses < fence
    return np.where(low, fence, losses), low
