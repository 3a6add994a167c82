"""Support: by how much each silo's update would lower each other silo's loss; and what voices are made of."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.blocks import Floats, Vector, columns, weighted_sum
from fedlaw_flwr.core.half import to_single
from fedlaw_flwr.core.state import State

_SINGLE = 2**19
"""Numbers of a block of float32 rows: wide enough that BLAS multiplies two of them at its full speed."""

_FINEST = 126
"""2 to this and to the opposite power are normal float32 numbers."""


def cosines(updates: Floats, directions: Floats, update_norms: Vector, direction_norms: Vector) -> Vector:
    """<delta_i, r_j> / (|delta_i| |r_j|), the cosine of each update with each direction.

    Products are float64 sums over blocks of columns: m k d multiplications, one block of memory.

    Args:
        updates: delta_i, (m, d).
        directions: r_j, (k, d).
        update_norms: |delta_i|, (m,).
        direction_norms: |r_j|, (k,); NaN for a row that may hold anything.

    Returns:
        (m, k): 0 where either norm is 0, NaN in the column of a direction whose norm is.
    """
    (m, d), k = updates.shape, len(directions)
    products, known = np.zeros((m, k)), np.isfinite(direction_norms)
    for block in columns(m + k, d):
        left, right = updates[:, block].astype(np.float64), directions[:, block].astype(np.float64)
        right[~known] = 0.0
        products += left @ right.T
    return _over_norms(products, update_norms, direction_norms)


def _over_norms(products: Vector, left_norms: Vector, right_norms: Vector) -> Vector:
    """Products (m, k) over the norms of both sides: 0 where either is 0, NaN in the column of a norm that is."""
    known = np.isfinite(right_norms)
    scale = np.outer(left_norms, np.where(known, right_norms, 0.0))
    found: Vector = np.divide(products, scale, out=np.zeros(products.shape), where=scale > 0)
    np.clip(found, -1.0, 1.0, out=found)
    found[:, ~known] = np.nan
    return found


def support(updates: Floats, reviews: Floats, update_norms: Vector, review_norms: Vector) -> Vector:
    """M_ij = <delta_i, r_j> / (|delta_i| |r_j|), the cosine between silo i's update and reviewer j's gradient.

    A step along delta_i lowers j's loss, to first order, where M_ij > 0.

    Args:
        updates: delta_i = theta - psi_i, (m, d).
        reviews: r_j, the gradient of j's class-balanced loss at theta, (m, d).
        update_norms: |delta_i|, (m,).
        review_norms: |r_j|, (m,); NaN for a silo without a valid review.

    Returns:
        M, (m, m): row i is the silo judged, column j the reviewer. 0 where either norm is 0. NaN on the diagonal, as no
        silo judges itself, and in the column of a silo without a valid review.
    """
    found = cosines(updates, reviews, update_norms, review_norms)
    np.fill_diagonal(found, np.nan)
    return found


def agreement(reviews: Floats, review_norms: Vector) -> Vector:
    """A_ij = <r_i, r_j> / (|r_i| |r_j|), the cosine between the reviews of silos i and j.

    Where A_ij > 0 a step that lowers i's loss lowers j's, to first order.

    Args:
        reviews: r_j, (m, d).
        review_norms: |r_j|, (m,); NaN for a silo without a valid review.

    Returns:
        A, (m, m), symmetric: 0 where either norm is 0; NaN on the diagonal, and in row and column of a silo without a
        valid review.
    """
    known = np.isfinite(review_norms)
    found = np.full((known.size, known.size), np.nan)
    found[np.ix_(known, known)] = cosines(reviews[known], reviews[known], review_norms[known], review_norms[known])
    np.fill_diagonal(found, np.nan)
    return found


def peer_support(updates: Floats, reviews: Floats, update_norms: Vector, review_norms: Vector) -> tuple[Vector, Vector]:
    """M of `support` and A of `agreement` in one pass over the reviews.

    Where reviews are kept in float16 and updates in float32, products of a block of columns are taken in float32 and
    summed over the blocks in float64: their error, about 1e-6, is far below the 5e-4 to which float16 rounds a review.
    Otherwise they are taken in float64. Memory: blocks of 2 MiB. Time: 1.5 m^2 d multiplications, as A is symmetric.

    Args:
        updates: delta_i, (m, d).
        reviews: r_j, (m, d).
        update_norms: |delta_i|, (m,).
        review_norms: |r_j|, (m,); NaN for a silo without a valid review, whose row may hold anything.

    Returns:
        M and A, (m, m) each.
    """
    if reviews.dtype != np.float16 or updates.dtype != np.float32:
        return support(updates, reviews, update_norms, review_norms), agreement(reviews, review_norms)
    (m, d), unknown = updates.shape, ~np.isfinite(review_norms)
    ours, theirs = np.zeros((m, m)), np.zeros((m, m))
    # as multiples of a power of 2 near the longest update: no product is beyond float32
    exponent = min(max(int(np.frexp(update_norms.max(initial=0.0))[1]), -_FINEST), _FINEST)
    shrink = np.float32(2.0**-exponent)
    for block in columns(m, d, _SINGLE):
        right = to_single(reviews[:, block])
        right[unknown] = 0.0
        ours += (updates[:, block] * shrink) @ right.T
        theirs += right @ right.T
    found = _over_norms(np.ldexp(ours, exponent), update_norms, review_norms)
    agreed = _over_norms(theirs, np.where(unknown, 0.0, review_norms), review_norms)
    agreed[unknown] = np.nan
    np.fill_diagonal(found, np.nan)
    np.fill_diagonal(agreed, np.nan)
    return found, agreed


def along(reviews: Floats, review_norms: Vector, rows: NDArray[np.intp], length: float) -> Vector | None:
    """(c / k) sum_j r_j / |r_j| over k reviewers: a step along their reviews that is c long where all of them agree.

    Args:
        reviews: r_j, (m, d).
        review_norms: |r_j|, (m,), above 0 for those rows.
        rows: The rows of the k reviewers. The others are not read.
        length: c, at least 0.

    Returns:
        (d,); None where it is 0, because c is or because there is no reviewer.
    """
    if not length or not rows.size:
        return None
    return weighted_sum(length / (rows.size * review_norms[rows]), reviews, rows)


def contrast(found: Vector, share: float) -> Vector:
    """How much more than other reviewers each one likes a silo: M_ij less a share of the mean of row i.

    Args:
        found: M, (m, m); NaN where nothing is known.
        share: How much of the row's mean over its known entries is taken away, 0 to 1.

    Returns:
        (m, m); NaN where M is.
    """
    known = np.isfinite(found)
    total, count = np.where(known, found, 0.0).sum(axis=1), known.sum(axis=1)
    means = np.divide(total, count, out=np.zeros(len(found)), where=count > 0)
    less: Vector = found - share * means[:, None]
    return less


def rank_support(found: Vector) -> Vector:
    """Each reviewer's M_ij replaced by its rank among the others, spread evenly over [-1, 1].

    The least of k values becomes -1, the largest 1; equal values share the mean of their ranks; a single value becomes
    0. So a reviewer, however large its numbers, has one voice, and its voice sums to 0.

    Args:
        found: M, (m, m); NaN where nothing is known.

    Returns:
        R, (m, m); NaN where M is.
    """
    ranks = np.full_like(found, np.nan)
    for j in range(found.shape[1]):
        known = np.flatnonzero(np.isfinite(found[:, j]))
        if not known.size:
            continue
        _, place, count = np.unique(found[known, j], return_inverse=True, return_counts=True)
        mean_rank = np.cumsum(count) - (count + 1) / 2  # of equal values, from 0
        ranks[known, j] = 2 * mean_rank[place.reshape(-1)] / (known.size - 1) - 1 if known.size > 1 else 0.0
    return ranks


def relative_support(found: Vector) -> Vector:
    """Each reviewer's M_ij over twice its root mean square, cut to [-1, 1]: M_ij / (2 rms_j).

    Unlike a rank it says whether the update lowers the reviewer's loss at all: 0 stays 0.

    Args:
        found: M, (m, m); NaN where nothing is known.

    Returns:
        (m, m); NaN where M is; 0 in the column of a reviewer whose supports are all 0.
    """
    known = np.isfinite(found)
    squares = np.where(known, np.square(found), 0.0).sum(axis=0)
    rms = np.sqrt(np.divide(squares, known.sum(axis=0), out=np.zeros(found.shape[1]), where=squares > 0))
    relative: Vector = np.divide(found, 2 * rms, out=np.where(known, 0.0, np.nan), where=known & (rms > 0))
    return np.clip(relative, -1.0, 1.0)


class PairMeans:
    """The mean of a matrix over rounds, entry by entry, by who judged whom; whoever is absent keeps what was said.

    Args:
        decay: What a round counts for when the next one comes: k rounds later it counts decay^k. Default: 1, a plain
            mean.
    """

    _place: dict[Hashable, int]
    _total: Vector
    _count: Vector

    def __init__(self, decay: float = 1.0) -> None:
        self._decay = decay
        self.forget()

    def add(self, silos: Sequence[Hashable], values: Vector) -> None:
        """Takes one round's matrix.

        Args:
            silos: The silos of its rows and columns, m keys.
            values: The matrix, (m, m); NaN where nothing is known.
        """
        for silo in silos:
            self._place.setdefault(silo, len(self._place))
        missing = len(self._place) - len(self._total)
        if missing:
            self._total, self._count = (np.pad(one, (0, missing)) for one in (self._total, self._count))
        self._total *= self._decay
        self._count *= self._decay
        where = np.ix_(*2 * [[self._place[silo] for silo in silos]])
        self._total[where] += np.where(np.isfinite(values), values, 0.0)
        self._count[where] += np.isfinite(values)

    def over(self, silos: Sequence[Hashable]) -> Vector:
        """The means over these silos, all of them seen before, (m, m); NaN where nothing is known."""
        where = np.ix_(*2 * [[self._place[silo] for silo in silos]])
        count = self._count[where]
        means: Vector = np.divide(self._total[where], count, out=np.full(count.shape, np.nan), where=count > 0)
        return means

    def forget(self) -> None:
        """Forgets all rounds."""
        self._place = {}
        self._total = np.zeros((0, 0))
        self._count = np.zeros((0, 0))

    def state(self) -> State:
        """See `core.state`."""
        return State({"silos": list(self._place)}, {"total": self._total.copy(), "count": self._count.copy()})

    def restore(self, state: State) -> None:
        """See `core.state`."""
        self._place = {silo: place for place, silo in enumerate(state.values["silos"])}
        self._total = np.array(state.arrays["total"], np.float64)
        self._count = np.array(state.arrays["count"], np.float64)


class SiloMeans:
    """The mean of a number over rounds, by silo; NaN counts as not said.

    Args:
        decay: As in `PairMeans`; a silo's rounds are those in which it said a number. Default: 1.
    """

    _total: dict[Hashable, float]
    _count: dict[Hashable, float]

    def __init__(self, decay: float = 1.0) -> None:
        self._decay = decay
        self.forget()

    def add(self, silos: Sequence[Hashable], values: Vector) -> None:
        """Takes one round's numbers, (m,)."""
        for silo, value in zip(silos, values.tolist(), strict=True):
            if np.isfinite(value):
                self._total[silo] = self._decay * self._total.get(silo, 0.0) + value
                self._count[silo] = self._decay * self._count.get(silo, 0.0) + 1

    def over(self, silos: Sequence[Hashable], otherwise: float = 0.0) -> Vector:
        """The means over these silos, (m,); `otherwise` for a silo that never said one. Default: 0."""
        return np.array([self._total[silo] / self._count[silo] if silo in self._count else otherwise for silo in silos])

    def forget(self) -> None:
        """Forgets all rounds."""
        self._total, self._count = {}, {}

    def state(self) -> State:
        """See `core.state`."""
        return State({"means": [[silo, total, self._count[silo]] for silo, total in self._total.items()]})

    def restore(self, state: State) -> None:
        """See `core.state`."""
        self.forget()
        for silo, total, count in state.values["means"]:
            self._total[silo], self._count[silo] = float(total), float(count)
