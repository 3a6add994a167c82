"""What FedLAW does to updates and losses before it believes them (FedLAW, Appendix C; coalitions are ours)."""

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr import blocks
from fedlaw_flwr.blocks import Floats
from fedlaw_flwr.rules.distances import connected, squared_distances

Vector = NDArray[np.float64]

# Fewer losses than this say nothing about which of them is out of line: the median of 7 is moved by 3.
_FEWEST_LOSSES = 8
# 1.4826 makes the MAD of a normal sample its standard deviation.
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


def coalitions(updates: Floats, distance: float, largest: int) -> NDArray[np.intp]:
    """A label 0 .. g-1 for each of the updates (m, d): silos that say the same, give or take, have the same.

    i and j are linked where the chord between their directions, ||x_i/|x_i| - x_j/|x_j|||, is at most `distance` (0.05
    is 3 degrees), whatever their norms; a coalition is a connected component. One with more than `largest` = b' silos
    has honest ones among it and stays apart, each for itself, as do updates of 0. Accumulated in float64, n^2 d.
    """
    squared = squared_distances(updates)
    norms = np.array([blocks.norm(row) for row in updates])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # |x - y|^2 = (|x| - |y|)^2 + |x| |y| chord^2: the part that lengths alone explain is taken out
        chord = np.sqrt(np.maximum(squared - np.subtract.outer(norms, norms) ** 2, 0.0) / np.outer(norms, norms))
        linked = chord <= distance
    labels = np.arange(norms.size)
    for members in connected(linked):
        if members.size <= largest:
            labels[members] = members[0]
    return np.unique(labels, return_inverse=True)[1].reshape(-1)
