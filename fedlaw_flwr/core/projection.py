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
    w_i = min(t, max(0, h_i - tau)). Of equal entries the first keeps its place.

    With m = ceil(1/t), tau lies less than t below the m-th largest entry: m - 1 entries at the cap are too few, and m
    are enough. So entries t or more above that one are at the cap, those t or more below it are 0, and only the ones
    between are sorted: O(n) and a sort of those.

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
    t = max(t, 1.0 / s)
    m = min(s, math.ceil(1.0 / t - _ROUNDING))
    with np.errstate(over="ignore"):
        # Shifting all scores alike changes nothing: with the m-th largest at 0, scores of 1e30 before or after it
        # cannot swallow the weights.
        x = scores - np.partition(scores, scores.size - m)[scores.size - m]
    weights = np.zeros_like(scores)
    at_cap = x >= t
    weights[at_cap] = t
    already = int(np.count_nonzero(at_cap))
    between = np.flatnonzero((x > -t) & ~at_cap)
    between = between[_largest(x[between], s - already)]
    weights[between] = _project(x[between], t, already)
    return weights


def _largest(x: NDArray[np.float64], k: int) -> NDArray[np.intp] | slice:
    """Which are the k largest of x; of equal ones the first."""
    if k >= x.size:
        return slice(None)
    least = np.partition(x, x.size - k)[x.size - k]
    above, equal = np.flatnonzero(x > least), np.flatnonzero(x == least)
    return np.sort(np.concatenate((above, equal[: k - above.size])))


def _project(x: NDArray[np.float64], t: float, already: int) -> NDArray[np.float64]:
    """min(t, max(0, x_i - tau)) with the tau, -t <= tau < 0, at which these and `already` entries at the cap sum to 1.

    Of x, a entries are at the cap, then come free ones, then zeros from the k-th largest on: (a, k) is the pair whose
    tau = (sum of free scores + (already + a) t - 1) / (k - a) puts every entry where the pair says it is.
    """
    ascending = np.sort(x)
    # phi(tau) = sum min(t, max(0, x_i - tau)) falls as tau rises over its breakpoints, x_i - t and x_i: halving over
    # them finds the two between which it crosses 1 - already t, and there the sets no longer change.
    breakpoints = np.sort(np.concatenate((ascending - t, ascending)))

    def sets(tau: float) -> tuple[int, int]:
        """The places in ascending from which on entries are positive and at the cap for this tau."""
        return int(np.searchsorted(ascending, tau, side="right")), int(np.searchsorted(ascending, tau + t, side="left"))

    low, high = 0, breakpoints.size - 1  # phi(breakpoints[low]) >= 1 > phi(breakpoints[high]) is kept true
    while high - low > 1:
        middle = (low + high) // 2
        positive, capped = sets(breakpoints[middle])
        # Summing differences, not differencing prefix sums: far larger scores in front cannot swallow the rest.
        mass = (already + x.size - capped) * t + float((ascending[positive:capped] - breakpoints[middle]).sum())
        low, high = (middle, high) if mass >= 1 else (low, middle)
    tau = 0.5 * (breakpoints[low] + breakpoints[high])
    positive, capped = sets(tau)
    weights = np.where(x >= tau + t, t, 0.0)
    if capped > positive:
        free = (x > tau) & (x < tau + t)
        # Subtracting the mean first keeps the free weights exact even where the scores are large and close.
        centre = ascending[positive:capped].mean()
        share = (1.0 - (already + x.size - capped) * t) / (capped - positive)
        weights[free] = np.clip((x[free] - centre) + share, 0.0, t)
    return weights
