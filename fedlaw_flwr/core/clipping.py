"""The clip threshold of a round: an update longer than this is scaled down to it (FedLAW, Appendix C)."""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def clip_threshold(norms: Vector, byzantine: int) -> float:
    """The (m - b')-th smallest of the m norms: the largest norm that an update may keep.

    With at most b' attackers among the m silos, at least one of the m - b' smallest norms or one above them is honest.
    So the threshold never exceeds the largest honest norm (FedLAW, Assumption E1), whoever the honest silos are. It can
    clip honest silos when attackers send tiny updates.

    Args:
        norms: The l2 norms of the updates, (m,).
        byzantine: b', how many of the m silos may be Byzantine.

    Raises:
        ValueError: Unless 0 <= b' < m.
    """
    if not 0 <= byzantine < norms.size:
        raise ValueError(f"b'={byzantine} of m={norms.size} updates: at least one of them must be honest")
    return float(np.sort(norms)[norms.size - byzantine - 1])
