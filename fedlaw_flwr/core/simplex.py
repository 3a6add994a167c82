"""The set of allowed aggregation weights, D(s, t): how many silos may carry weight, and how much."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.projection import check_simplex


def byzantine_count(max_byzantine: int | float, n: int) -> int:
    """b, the most silos of n that may be Byzantine.

    Args:
        max_byzantine: A count (int), taken as it is, or a fraction of n (float) in [0, 0.5), rounded up.
        n: The number of silos.

    Raises:
        ValueError: Unless b >= 0 and 2b + 2 <= n (FedLAW, Appendix C), or for a fraction outside [0, 0.5). With fewer
            than 2b + 2 silos the honest silos are no sure majority.
    """
    if isinstance(max_byzantine, float):
        if not 0 <= max_byzantine < 0.5:
            raise InputError(f"max-byzantine={max_byzantine}: a fraction must be in [0, 0.5)")
        # 0.3 * 10 is 3.0000000000000004 somewhere: a hair above a whole number is that number.
        b = math.ceil(max_byzantine * n - 1e-9)
    else:
        b = max_byzantine
    if b < 0 or 2 * b + 2 > n:
        raise InputError(
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
    """The default cap t for s carriers, at most 1.

    From s = 100 up, t is the paper's 1/(s - 10) (I.2). Below, t is 12/(11 s), which continues the paper's 1/110 at
    s = 120 down to its 10-silo figures (0.182 at s = 6).

    Args:
        s: How many silos may carry weight, at least 1.
    """
    return min(1.0, 1.0 / (s - 10) if s >= 100 else 12.0 / (11.0 * s))


def capped(w: NDArray[np.float64], t: float) -> NDArray[np.float64]:
    """w with nothing above max(t, 1/c), c being how many carry weight; what is above goes to the other carriers.

    The others get it in proportion to their weight. A silo without weight gets none, whoever else is missing.

    Args:
        w: Weights, (m,), at least 0, sum 1.
        t: The cap, above 0.
    """
    cap = max(t, 1.0 / max(1, int(np.count_nonzero(w))))
    full = np.zeros(w.shape, bool)
    while (over := (w > cap * (1 + 1e-12)) & ~full).any():
        full |= over
        rest = float(w[~full].sum())
        w = np.where(full, cap, w * ((1.0 - cap * full.sum()) / rest) if rest > 0 else 0.0)
    return w


@dataclass(frozen=True)
class Simplex:
    """D(s, t) for n silos of which at most b are Byzantine: at most s of them carry weight, none more than t.

    Attributes:
        n: The number of silos.
        b: The largest number of silos that may be Byzantine.
        s: How many silos may carry weight.
        t: The cap, the most weight that one silo may have; at most 1.
    """

    n: int
    b: int
    s: int
    t: float

    @classmethod
    def for_federation(cls, n: int, max_byzantine: int | float, s: int = 0, t: float = 0.0) -> "Simplex":
        """The allowed weights of a federation before any reply is in.

        Args:
            n: The number of silos.
            max_byzantine: b as a count (int) or as a fraction of n (float), as `byzantine_count` takes it.
            s: How many silos may carry weight, at most n; 0: n - b. Default: 0.
            t: The cap; 0: default_cap(s). Default: 0. A cap above 1 becomes 1.

        Raises:
            ValueError: If D(s, t) is empty, if s > n, or if `byzantine_count` does not allow `max_byzantine`.
        """
        b = byzantine_count(max_byzantine, n)
        if s > n:
            raise InputError(f"s={s}: more carriers than the n={n} silos there are")
        s = s or n - b
        t = t or default_cap(s)
        check_simplex(n, s, t)
        return cls(n, b, s, min(1.0, t))

    def sampled(self, k: int) -> "Simplex":
        """The allowed weights where the server asks k of the n silos, and the others sit this round out by its choice.

        b stays: in the worst draw every Byzantine silo is in the sample. The k - b others that are sure to be honest
        take the place of n - b: s_k = ceil(s (k - b) / (n - b)); where more than n - b may carry weight, k - (n - s).
        t_k = max(t s / s_k, 1 / s_k). With k = n nothing changes.

        Args:
            k: How many silos are asked, at least 2b + 2.
        """
        if k >= self.n:
            return self
        honest = self.n - self.b
        s = -(-self.s * (k - self.b) // honest) if self.s <= honest else k - (self.n - self.s)
        s = max(1, s)
        return Simplex(k, self.b, s, min(1.0, max(self.t * self.s / s, 1.0 / s)))

    def among(self, present: int, identified: int = 0) -> "Simplex | None":
        """The allowed weights D(s', t') over the silos present in a round.

        With m = `present`: b' = b - identified; s' = s - (n - identified - m), which is m - b' for s = n - b;
        t' = max(t s / s', 1 / s').

        Args:
            present: m, the number of silos that gave a usable reply.
            identified: How many Byzantine silos are already identified in this round. Default: 0.

        Returns:
            The simplex over m silos. None if m < 2b' + 2 or if no silo may carry weight: then the silos present are
            too few to tell the honest ones from the rest.
        """
        b = max(0, self.b - identified)
        s = min(present, self.s - (self.n - min(identified, self.b) - present))
        if present < 2 * b + 2 or s < 1:
            return None
        return Simplex(present, b, s, min(1.0, max(self.t * self.s / s, 1.0 / s)))
