"""Euclidean projection onto the sparse capped simplex, exactly (FedLAW, Theorem 1 and Algorithm 3)."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

# s * t >= 1 decides feasibility; t is usually a quotient such as 1 / s, so its product with s may fall a few
# roundings short of 1. Below this slack the cap is read as the 1 / s that was meant.
_ROUNDING = 1e-12


def check_simplex(n: int, s: int, t: float) -> None:
    """Checks that D(s, t) over n silos has a point.

    Args:
        n: The number of silos, at least 1.
        s: How many silos may carry weight, a whole number of at least 1; s > n means n.
        t: The cap of one silo's weight, finite and above 0.

    Raises:
        ValueError: Unless n >= 1, s >= 1, t > 0 and s * t >= 1; its text has the numbers.
    """
    if n < 1:
        raise ValueError("nothing to project: the vector is empty")
    if isinstance(s, bool) or int(s) != s or s < 1:
        raise ValueError(f"s={s}: the number of silos that may carry weight is a whole number of at least 1")
    if not (math.isfinite(t) and t > 0):
        raise ValueError(f"t={t}: the largest weight of one silo must be a finite number above 0")
    carriers = min(int(s), n)
    if carriers * t < 1 - _ROUNDING:
        raise ValueError(
            f"s={carriers}, t={t:.6g}: s*t = {carriers * t:.6g} < 1, no weight vector sums to 1; "
            f"raise t to at least 1/{carriers} = {1 / carriers:.6g}"
        )


def project(h: ArrayLike, s: int, t: float) -> NDArray[np.float64]:
    """argmin over w in D(s, t) of ||w - h||_2, with D(s, t) = {w : sum w = 1, 0 <= w_i <= t, ||w||_0 <= s}.

    The projection has three steps (FedLAW, Theorem 1). It keeps the s largest entries, takes their support, and
    projects those entries on the capped simplex {sum w = 1, 0 <= w_i <= t} (Wang and Lu 2015):
    w_i = min(t, max(0, h_i - tau)). Here tau is found by a merge over sorted breakpoints, O(n log n) in all. Of equal
    entries the first keeps its place.

    Args:
        h: The scores, (n,), any finite numbers.
        s: How many entries may be non-zero; s > n means n.
        t: The cap of one entry.

    Returns:
        The weights, a new float64 array (n,).

    Raises:
        ValueError: If h is empty, not one-dimensional or not finite, or if D(s, t) is empty.
    """
    scores = np.asarray(h, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"h has shape {scores.shape}: one score a silo is expected, shape (n,)")
    check_simplex(scores.size, s, t)
    if not np.all(np.isfinite(scores)):
        bad = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(f"h[{bad}] = {scores[bad]}: every score must be finite")
    s = min(int(s), scores.size)
    order = np.argsort(-scores, kind="stable")[:s]
    weights = np.zeros_like(scores)
    weights[order] = _project_descending(scores[order], max(t, 1.0 / s))
    return weights


def _project_descending(scores: NDArray[np.float64], t: float) -> NDArray[np.float64]:
    """Projection of descending scores (s,) on {sum w = 1, 0 <= w_i <= t}, s * t >= 1.

    The solution has a entries at the cap, then free ones, then zeros from entry k on: (a, k) is the pair whose
    tau = (sum of free scores + a t - 1) / (k - a) puts every entry where the pair says it is.
    """
    s = scores.size
    # At least ceil(1/t) entries must be positive, so tau lies just below the last of them. Shifting all scores
    # alike changes nothing: with that entry at 0, scores of 1e30 before or after it cannot swallow the weights.
    x = scores - scores[min(s, math.ceil(1.0 / t - _ROUNDING)) - 1]
    # phi(tau) = sum min(t, max(0, x_i - tau)) falls from s*t to 0 as tau rises over its breakpoints, x_i - t and
    # x_i: halving over them finds the two between which phi crosses 1, and there the sets no longer change.
    breakpoints = np.union1d(x - t, x)
    ascending = x[::-1]

    def sets(tau: float) -> tuple[int, int]:
        """How many entries are at the cap for this tau, and how many are positive."""
        capped = s - int(np.searchsorted(ascending, tau + t, side="left"))
        return capped, s - int(np.searchsorted(ascending, tau, side="right"))

    low, high = 0, breakpoints.size - 1  # phi(breakpoints[low]) >= 1 > phi(breakpoints[high]) is kept true
    while high - low > 1:
        middle = (low + high) // 2
        capped, positive = sets(breakpoints[middle])
        # Summing differences, not differencing prefix sums: far larger scores in front cannot swallow the rest.
        mass = capped * t + float((x[capped:positive] - breakpoints[middle]).sum())
        low, high = (middle, high) if mass >= 1 else (low, middle)
    capped, positive = sets(0.5 * (breakpoints[low] + breakpoints[high]))
    weights = np.zeros(s)
    weights[:capped] = t
    if positive > capped:
        free = x[capped:positive]
        # Subtracting the mean first keeps the free weights exact even where the scores are large and close.
        centre = free.mean()
        share = (1.0 - capped * t) / (positive - capped)
        weights[capped:positive] = np.clip((free - centre) + share, 0.0, t)
    return weights
