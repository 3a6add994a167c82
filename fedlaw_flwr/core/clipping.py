"""The clip threshold of a round: an update longer than this is scaled down to it (FedLAW, Appendix C)."""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def clip_threshold(norms: Vector, byzantine: int) -> float:
    """The (m - b')-th smallest of the m norms, b' = byzantine: the largest norm an update may keep.

    With at most b' attackers among the m, at least one of the m - b' smallest norms or one above them is honest,
    so the threshold never exceeds the largest honest norm (FedLAW, Assumption E1), whoever the honest are. It can
    clip honest silos when attackers send tiny updates. Raises ValueError unless 0 <= b' < m.
    """
    if not 0 <= byzantine < norms.size:
        raise ValueError(f"b'={byzantine} of m={norms.size} updates: at least one of them must be honest")
    return float(np.sort(norms)[norms.size - byzantine - 1])
