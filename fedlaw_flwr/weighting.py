"""The aggregation weights w from first to last: scored, projected, held, refreshed, lost by silence."""

import math
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.projection import check_simplex, project

Vector = NDArray[np.float64]


def byzantine_count(max_byzantine: int | float, n: int) -> int:
    """b, the most silos of n that may be Byzantine: a count (int) as it is, a fraction (float) rounded up.

    Raises ValueError unless 2b + 2 <= n (FedLAW, Appendix C): with fewer, honest silos are no sure majority.
    """
    if isinstance(max_byzantine, float):
        if not 0 <= max_byzantine < 0.5:
            raise ValueError(f"max-byzantine={max_byzantine}: a fraction must be in [0, 0.5)")
        # 0.3 * 10 is 3.0000000000000004 somewhere: a hair above a whole number is that number.
        b = math.ceil(max_byzantine * n - 1e-9)
    else:
        b = max_byzantine
    if b < 0 or 2 * b + 2 > n:
        raise ValueError(
            f"max-byzantine={max_byzantine} of n={n} silos: 2b+2 <= n is needed, so at most {max(0, (n - 2) // 2)}"
        )
    return b


def fewest_silos(max_byzantine: int | float) -> int:
    """The n from which on `byzantine_count` takes every number of silos: 2b + 2 for a count b."""
    if not isinstance(max_byzantine, float) or not 0 <= max_byzantine < 0.5:
        return max(2, 2 * int(max_byzantine) + 2)
    # ceil(f n) < f n + 1, so 2b + 2 <= n wherever n >= 4 / (1 - 2f); below, rounding decides.
    surely = min(100_000, math.ceil(4 / (1 - 2 * max_byzantine)))
    short = [n for n in range(1, surely) if 2 * math.ceil(max_byzantine * n - 1e-9) + 2 > n]
    return max(short) + 1


def default_cap(s: int) -> float:
    """t for s carriers: the paper's 1/(s - 10) from s = 100 up (I.2), 12/(11 s) below, at most 1.

    12/(11 s) continues the paper's 1/110 at s = 120 down to its 10-silo figures (0.182 at s = 6).
    """
    return min(1.0, 1.0 / (s - 10) if s >= 100 else 12.0 / (11.0 * s))


@dataclass(frozen=True)
class Simplex:
    """D(s, t) for n silos of which at most b are Byzantine: at most s of them carry weight, none more than t."""

    n: int
    b: int
    s: int
    t: float

    @classmethod
    def for_federation(cls, n: int, max_byzantine: int | float, s: int = 0, t: float = 0.0) -> "Simplex":
        """s = n - b and t = default_cap(s), unless given (0 means not given). Raises ValueError if D(s, t) is empty."""
        b = byzantine_count(max_byzantine, n)
        if s > n:
            raise ValueError(f"s={s}: more carriers than the n={n} silos there are")
        s = s or n - b
        t = t or default_cap(s)
        check_simplex(n, s, t)
        return cls(n, b, s, min(1.0, t))

    def among(self, present: int, unmasked: int = 0) -> "Simplex | None":
        """D(s', t') when only m = present silos count and unmasked Byzantine ones are already set aside.

        b' = b - unmasked; s' = s - (n - unmasked - m), which is m - b' for s = n - b; t' = max(t s / s', 1 / s').
        None where m < 2b' + 2 or nobody may carry: too few to tell the honest from the rest.
        """
        b = max(0, self.b - unmasked)
        s = min(present, self.s - (self.n - min(unmasked, self.b) - present))
        if present < 2 * b + 2 or s < 1:
            return None
        return Simplex(present, b, s, min(1.0, max(self.t * self.s / s, 1.0 / s)))


def score(w: Vector, inner: Vector, losses: Vector, alpha: float, beta: float) -> Vector:
    """h = w + (beta / alpha) D z - beta f~ (FedLAW, Algorithm 2, in delta form), all of shape (m,).

    inner: D z, the inner product of every silo's delta of exchange 1 with z = sum_i w_i delta~_i of exchange 2, so
    that the m x m product D D~' is never formed; losses: f~, at the trial model; alpha: the silos' step; beta: the
    step of the weights. With delta = alpha g this is w + alpha beta G' (G~ w) - beta f~.
    """
    return w + (beta / alpha) * inner - beta * losses


def one_voice(w: Vector, coalitions: NDArray[np.intp], t: float) -> Vector:
    """w (m,) with the joint weight of no coalition above t, the excess shared by the other silos that carry weight.

    coalitions: a label each (`guards.coalitions`). Over the g coalitions and single silos that carry weight, P w the
    sums of w by label: v = argmin ||v - P w|| over v in D(g, t), t read as at least 1/g; each v is shared alike by its
    members. w itself, to the bit, where no two carriers share a label; who has no weight gets none.
    """
    carriers = np.flatnonzero(w > 0)
    labels = np.unique(coalitions[carriers], return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(labels)
    if sizes.size == carriers.size:
        return w.copy()
    together = project(np.bincount(labels, w[carriers]), sizes.size, max(t, 1.0 / sizes.size))
    voices = np.zeros_like(w)
    voices[carriers] = (together / sizes)[labels]
    return voices


def least_loss(losses: Vector, s: int, t: float) -> Vector:
    """argmin over w in D(s, t) of sum_i w_i f_i (FedLAW, Appendix B, BSUM): a linear programme with a known vertex.

    The silos of least loss take t each until the weight is spent; of equal losses the first comes first.
    """
    check_simplex(losses.size, s, t)
    weights = np.zeros(losses.size)
    s = min(s, losses.size)
    cap = max(t, 1.0 / s)
    for k, i in enumerate(np.argsort(losses, kind="stable")[:s]):
        left = 1.0 - k * cap
        if left <= 1e-12:  # what rounding leaves of 1 is no weight, and makes nobody a carrier
            break
        weights[i] = min(cap, left)
    return weights


@dataclass(frozen=True)
class Schedule:
    """When w is learned: up to round weight_rounds (-1: in all), then in one round of refresh_every (0: never).

    In the first warm_rounds weights are equal. Raises ValueError where no weight round would be left.
    """

    weight_rounds: int = 20
    refresh_every: int = 0
    warm_rounds: int = 0

    def __post_init__(self) -> None:
        if self.warm_rounds < 0 or (self.warm_rounds and 0 <= self.weight_rounds <= self.warm_rounds):
            raise ValueError(
                f"warm_rounds={self.warm_rounds}: of weight_rounds={self.weight_rounds} these are the first, with "
                "equal weights, and one at least is left to learn them; 0 is off"
            )

    def learns(self, round_number: int) -> bool:
        """Whether round_number (from 1) is a weight round."""
        return 0 < round_number == self.last(round_number)

    def carriers(self, round_number: int, first: int, s: int) -> int:
        """How many may carry weight in round_number where b is not known (FedLAW, I.2): first in the first weight
        round, s from the last, weight_rounds, on, lowered in equal steps between (rounded up). The paper names no
        steps; these are ours. Two weight rounds at least."""
        begun = max(0, round_number - 1 - self.warm_rounds)
        over = min(1.0, begun / (self.weight_rounds - 1 - self.warm_rounds))
        return first - math.floor((first - s) * over + 1e-9)

    def last(self, round_number: int) -> int:
        """The last weight round up to round_number, 0 if there was none."""
        if round_number <= self.warm_rounds:
            return 0
        if self.weight_rounds < 0 or round_number <= self.weight_rounds:
            return round_number
        if self.refresh_every <= 0:
            return self.weight_rounds
        return round_number - (round_number - self.weight_rounds) % self.refresh_every


class Weights:
    """Every silo's standing: the weight it was last given, kept while it is absent, gone when it dodges a score."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._standing: dict[Hashable, float] | None = None
        self._learned = 0  # the round in which w was last learned
        self._again = False
        self._evidence: dict[Hashable, float] = {}  # of every silo scored so far, where scores have a memory

    def learns(self, round_number: int) -> bool:
        """Whether w is learned in this round: by the schedule, or because too much weight went missing.

        A weight round in which the model was held is made up for: else attackers that stay silent until there are no
        more of them would come back to weights that were never learned.
        """
        return self._again or self._schedule.last(round_number) > self._learned

    def over(self, silos: Sequence[Hashable]) -> Vector:
        """w over the silos present, (m,), summing to 1: their standing rescaled; 1/m before anything is learned."""
        held = self._held(silos)
        total = held.sum()
        return held / total if total > 0 else np.full(len(silos), 1.0 / len(silos))

    def remember(self, silos: Sequence[Hashable], evidence: Vector, memory: float) -> Vector:
        """y <- memory y + e of these silos, (m,): what the rounds have said of each, not this one alone.

        e is taken about its median and cut at +-1, all the weight there is, so that no silo, whatever it reports, moves
        another's. Who is scored for the first time starts from the least y there is. With memory = 1 and w the
        projection of 1/m + y this is dual averaging (lazy projection; Zinkevich 2003, section 2.2; Xiao 2010).
        """
        least = min(self._evidence.values(), default=0.0)
        past = np.array([self._evidence.get(silo, least) for silo in silos])
        y: Vector = memory * past + np.clip(evidence - np.median(evidence), -1.0, 1.0)
        self._evidence.update(zip(silos, y.tolist(), strict=True))
        return y

    def missing(self, silos: Collection[Hashable]) -> float:
        """The share of the learned weight whose silos are not among these, 0 before anything is learned."""
        if not self._standing:
            return 0.0
        everyone = sum(self._standing.values())
        return 1.0 - float(self._held(list(silos)).sum()) / everyone if everyone > 0 else 1.0

    def dodge(self, silos: Collection[Hashable]) -> None:
        """Takes all standing from silos that gave an update and would not be scored, until they are scored again."""
        if self._standing is not None:
            self._standing.update((silo, 0.0) for silo in silos)
        least = min(self._evidence.values(), default=0.0)  # a silo's own bad record included: dodging mends none
        self._evidence.update((silo, least) for silo in silos if silo in self._evidence)

    def learn(self, silos: Sequence[Hashable], w: Vector, round_number: int) -> None:
        """Takes the new w (m,) of the silos scored.

        If the next round is a held one, only the silos scored now carry weight into it.
        """
        standing = dict(self._standing or {})
        standing.update((silo, float(weight)) for silo, weight in zip(silos, w, strict=True))
        self._learned, self._again = round_number, False
        if not self._schedule.learns(round_number + 1):
            scored = frozenset(silos)
            standing = {silo: weight for silo, weight in standing.items() if silo in scored}
        self._standing = standing

    def learn_again(self) -> None:
        """Forgets all standing and makes the next round a weight round."""
        self._standing = None
        self._evidence = {}
        self._again = True

    def _held(self, silos: Sequence[Hashable]) -> Vector:
        standing = self._standing or {}
        return np.array([standing.get(silo, 0.0) for silo in silos], dtype=np.float64)
