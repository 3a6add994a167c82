"""The set of silos that vouches most for itself: a dense quadratic over sets of one size, by local search."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.blocks import Vector
from fedlaw_flwr.core.errors import InputError

Rows = NDArray[np.intp]

_FEW = 64
"""Up to so many silos, searches begin from every reviewer's favourites; above, from a few's."""
_REVIEWERS = 4
"""These few, evenly chosen."""
_RANDOM = 4
"""Searches also begin from so many random sets."""
_SHORT = 48
"""Of each side so many candidates for a swap are tried before all are."""
_REFINED, _REFINED_OF_MANY, _TRIED = 8, 2, 16
"""Where few voices count: ends climbed from, with up to 64 silos and with more; candidates of each side for a swap."""


@dataclass(frozen=True)
class Found:
    """A set of silos and what it is worth.

    Attributes:
        members: Its rows, ascending.
        value: See `value`.
    """

    members: Rows
    value: float


def value(ranks: Vector, bonus: Vector, members: Rows, voices: int) -> float:
    """sum_{i in S} a_i + (s / k) (sum of the k smallest of what the members of S say of it).

    Member j says sum_{i in S, i != j} R_ij. With k = s this is sum_{i, j in S} R_ij + sum_{i in S} a_i.

    Args:
        ranks: R, (m, m), finite off the diagonal; the diagonal is not read.
        bonus: a, (m,).
        members: S, s rows of it.
        voices: k, how many members count, the least content ones.
    """
    inner = ranks[np.ix_(members, members)]
    said = np.sort(inner.sum(axis=0) - np.diag(inner))
    return float(members.size / voices * said[:voices].sum() + bonus[members].sum())


def vouching_sets(ranks: Vector, bonus: Vector, size: int, voices: int = 0) -> list[Found]:
    """The different sets at which local search ends, the best first.

    From each of several starts the best swap of a member for another silo is made until none raises the value with all
    voices; where fewer count, each such end is then climbed from by the value in which these alone do. Starts are each
    reviewer's favourites, the row sums, the leading eigenvector of R + R' and random sets; the random ones are the same
    in every call. The result is a local optimum; `python -m benchmarks.vouching` measures how far it is from the
    global one.

    Args:
        ranks: R, (m, m), row i the silo judged, column j the reviewer; finite off the diagonal, which is not read.
        bonus: a, (m,), what silo i adds to a set whoever else is in it.
        size: s, how many silos the set has, 1 to m.
        voices: k, how many of the least content members count, 1 to s; 0: all. Default: 0.

    Returns:
        The sets found, by value from the largest down; of equal values the one of the lower rows first.

    Raises:
        ValueError: For a size outside 1 to m, or more voices than members.
    """
    m = bonus.size
    if not (1 <= size <= m and 0 <= voices <= size):
        raise InputError(f"a set of {size} among {m} silos, {voices} voices: sizes 1 to {m}, voices 0 to {size}")
    voices = voices or size
    own = ranks.copy()
    np.fill_diagonal(own, 0.0)
    both = own + own.T
    ends = {tuple(_climb(both, bonus, start).tolist()) for start in _starts(ranks, both, bonus, size)}
    sets = [np.array(members, np.intp) for members in sorted(ends)]
    if voices < size:
        sets.sort(key=lambda one: -value(own, bonus, one, voices))
        most = _REFINED if m <= _FEW else _REFINED_OF_MANY
        again = {tuple(_climb_by_few(own, bonus, one, voices).tolist()) for one in sets[:most]}
        sets = [np.array(members, np.intp) for members in sorted(again)]
    found = [Found(members, value(own, bonus, members, voices)) for members in sets]
    return sorted(found, key=lambda one: (-round(one.value, 9), one.members.tolist()))


def _starts(ranks: Vector, both: Vector, bonus: Vector, size: int) -> Iterator[Rows]:
    """Sets of this size to climb from."""
    m = bonus.size

    def largest(scores: Vector) -> Rows:
        return np.argsort(-scores, kind="stable")[:size]

    yield largest(both.sum(axis=1) / 2 + bonus)
    yield largest(bonus)
    leading = _leading(both)
    yield largest(leading)
    yield largest(-leading)
    for j in range(m) if m <= _FEW else np.linspace(0, m - 1, _REVIEWERS).astype(int):
        favourites = ranks[:, j].copy()
        favourites[j] = np.inf
        yield largest(favourites)
    rng = np.random.default_rng(0)
    for _ in range(_RANDOM):
        yield rng.permutation(m)[:size]


def _leading(both: Vector) -> Vector:
    """The eigenvector of the largest eigenvalue, as far as 60 power steps come."""
    shift = float(np.abs(both).sum(axis=1).max(initial=0.0))  # no eigenvalue lies below -shift
    vector = np.random.default_rng(1).standard_normal(len(both))
    for _ in range(60):
        vector = both @ vector + shift / 2 * vector
        vector /= np.linalg.norm(vector) or 1.0
    return vector


def _climb(both: Vector, bonus: Vector, start: Rows) -> Rows:
    """The best swap, again and again, until none raises the value; many at once at first, as long as that does."""
    inside = np.zeros(bonus.size, bool)
    inside[start] = True
    worth = both @ inside.astype(np.float64) + bonus  # what each silo adds to the set, or would
    while True:
        better = np.zeros_like(inside)
        better[np.argsort(-worth, kind="stable")[: start.size]] = True
        after = both @ better.astype(np.float64) + bonus
        if not (after + bonus)[better].sum() > (worth + bonus)[inside].sum() + 1e-9:
            break
        inside, worth = better, after
    while True:
        members, others = np.flatnonzero(inside), np.flatnonzero(~inside)
        if not others.size:
            return members
        out = _least(worth, members, _SHORT)
        into = _least(-worth, others, _SHORT)
        for leaving, coming in ((out, into), (members, others)):
            gain = worth[coming][None, :] - worth[leaving][:, None] - both[np.ix_(leaving, coming)]
            u, v = np.unravel_index(int(np.argmax(gain)), gain.shape)
            if gain[u, v] > 1e-9:
                break
        else:
            return members
        inside[leaving[u]], inside[coming[v]] = False, True
        worth += both[:, coming[v]] - both[:, leaving[u]]


def _climb_by_few(own: Vector, bonus: Vector, start: Rows, voices: int) -> Rows:
    """The best swap among the most promising candidates, by the value in which only the least content count."""
    inside = np.zeros(bonus.size, bool)
    inside[start] = True
    share = start.size / voices
    best = value(own, bonus, np.flatnonzero(inside), voices)
    while True:
        members, others = np.flatnonzero(inside), np.flatnonzero(~inside)
        if not others.size:
            return members
        said = own[np.ix_(members, members)].sum(axis=0)
        counting = members[np.argsort(said, kind="stable")[:voices]]
        worth = share * own[:, counting].sum(axis=1) + bonus
        # Leaving helps where the others gain, or where the leaver was itself among the least content.
        gain_of_leaving = -worth[members]
        gain_of_leaving[np.isin(members, counting)] -= share * said[np.isin(members, counting)]
        out = _least(-gain_of_leaving, np.arange(members.size), _TRIED)
        into = others[_least(-worth[others], np.arange(others.size), _TRIED)]
        chosen: tuple[float, int, int] | None = None
        for row in out:
            rest = np.delete(members, row)
            left = said - own[members[row], members]
            told = np.empty((into.size, members.size))
            told[:, :-1] = np.delete(left, row)[None, :] + own[np.ix_(into, rest)]
            told[:, -1] = own[np.ix_(rest, into)].sum(axis=0)
            least = np.partition(told, voices - 1, axis=1)[:, :voices].sum(axis=1)
            values = share * least + bonus[rest].sum() + bonus[into]
            top = int(np.argmax(values))
            if chosen is None or values[top] > chosen[0]:
                chosen = float(values[top]), int(members[row]), int(into[top])
        assert chosen is not None
        if not chosen[0] > best + 1e-9:
            return members
        best = chosen[0]
        inside[chosen[1]], inside[chosen[2]] = False, True


def _least(scores: Vector, rows: Rows, count: int) -> Rows:
    """The rows with the least scores, ascending by row."""
    if rows.size <= count:
        return rows
    return np.sort(rows[np.argpartition(scores[rows], count)[:count]])
