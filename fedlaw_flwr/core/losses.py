"""Which reported losses are out of line: their robust spread, and the loss filter of FedLAW's Appendix C."""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# Fewer losses than this say nothing about which of them is out of line: the median of 7 is moved by 3.
_FEWEST_LOSSES = 8
# 1.4826 makes the MAD of a normal sample its standard deviation.
_NORMAL_MAD = 1.4826
# Honest losses can agree so closely that their MAD is nothing; a twentieth of the median is never "far below".
_SMALLEST_SPREAD = 0.05


def median_and_deviation(losses: Vector) -> tuple[float, float]:
    """The median of the losses (m,), m at least 1, and their robust standard deviation, 1.4826 MAD."""
    median = float(np.median(losses))
    return median, _NORMAL_MAD * float(np.median(np.abs(losses - median)))


def raise_low_losses(losses: Vector, width: float = 3.0) -> tuple[Vector, NDArray[np.bool_]]:
    """Raises the losses that are anomalously low to the fence (FedLAW, Appendix C).

    fence = median - width max(1.4826 MAD, |median| / 20). The filter is one-sided: a silo gains nothing from reporting
    less than the fence, and loses nothing from a high honest loss. Below 8 losses nothing is raised. A silo whose loss
    was raised stays in the round.

    Args:
        losses: The reported losses, (m,).
        width: How far below the median the fence lies; 3 is the usual three sigmas. At 0 no loss below the median is
            believed. Default: 3.

    Returns:
        The losses after the filter, (m,), a new array; and which of them were raised, a mask (m,).
    """
    if losses.size < _FEWEST_LOSSES:
        return losses.copy(), np.zeros(losses.size, dtype=bool)
    median, deviation = median_and_deviation(losses)
    fence = median - width * max(deviation, _SMALLEST_SPREAD * abs(median))
    low = losses < fence
    return np.where(low, fence, losses), low
