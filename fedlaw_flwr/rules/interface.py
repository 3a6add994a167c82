"""What a rule is handed and what it returns, and the numbers a person may set."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedlaw_flwr.blocks import Floats, Vector, weighted_sum
from fedlaw_flwr.rules.matrix import Mask

_AT_LEAST = {
    "f": 0,
    "krum_m": 1,
    "bulyan_pool": 1,
    "bulyan_inner": 1,
    "bulyan_average": 1,
    "cclip_iterations": 1,
    "rfa_iterations": 1,
    "huber_iterations": 1,
    "bucket_size": 1,
    "size_cap": 0,
    "seed": 0,
}
_ABOVE_ZERO = ("cclip_tau", "rfa_nu", "huber_threshold")


@dataclass(frozen=True, eq=False)
class Aggregate:
    """What a rule made of n updates.

    update   (d,), of the updates' dtype.
    weights  (n,), float64, sum 1: the weight each row got; None where coordinates mix rows or a centre enters.
    kept     (n,): rows that survived the rule's selection; None for a rule that selects no rows.
    """

    update: Floats
    weights: Vector | None = None
    kept: Mask | None = None

    @classmethod
    def weighted(cls, updates: Floats, weights: Vector) -> "Aggregate":
        """sum_i w_i x_i."""
        return cls(weighted_sum(weights, updates).astype(updates.dtype), weights)

    @classmethod
    def mean_of(cls, updates: Floats, kept: Mask) -> "Aggregate":
        """The plain mean of the kept rows."""
        weights = kept / np.count_nonzero(kept)
        return cls(weighted_sum(weights, updates).astype(updates.dtype), weights, kept)


@dataclass(frozen=True)
class RuleSettings:
    """The numbers a person may set. "Units of g": of the pseudo-gradient g = delta / alpha, whatever alpha is.

    f                  silos assumed Byzantine, a count; 0. Trimmed mean trims f a side.
    beyond_guarantee   run a rule where its paper's condition fails (FedLAW's tables do); False.
    krum_m             updates Multi-Krum averages, a count; n - f (ByzFL; FedLAW: n - f - 2).
    bulyan_pool        updates Bulyan selects, a count; n - 2f (El Mhamdi et al. 2018). Another number only beyond the
                       guarantee.
    bulyan_inner       neighbours each inner Krum counts; r - f - 2 of r remaining rows. Another number only beyond
                       the guarantee, where n - f - 2 is the default (FedLAW, I.2: (1 - fraction) n - 2).
    bulyan_average     values Bulyan averages per coordinate, a count; max(1, pool - 2f). Another number only beyond
                       the guarantee. (FedLAW, I.2, has a candidate pool of 20, 40 or 50 of n = 200, not said which.)
    cclip_tau          clipping radius, units of g; 10 (FedLAW: 0.1 or 10; the code of Karimireddy et al. 2021: 100,
                       of Karimireddy et al. 2022: 10, over 1 - momentum in some runs).
    cclip_iterations   clipping steps a round; 1 (FedLAW and the code of Karimireddy et al. 2021).
    rfa_nu             smoothing of Weiszfeld's method, units of g; 1e-6 (FedLAW; Pillutla et al.'s code: 1e-5).
    rfa_iterations     Weiszfeld steps from the mean; 3 (FedLAW; Pillutla et al.'s main runs: 2).
    huber_threshold    where Huber's loss turns linear, units of g; 0.2 (FedLAW: 0.12 or 0.2).
    huber_iterations   most steps of Huber's solver; 100, which it rarely needs (our choice).
    bucket_size        updates a bucket; 1 is off (Karimireddy et al. 2022 and FedLAW: 2).
    nnm                mix each update with its nearest neighbours first; False (Allouah et al. 2023).
    size_cap           FedAvg weighs by the examples a silo claims, at most so many; 0 weighs all alike (our choice).
    seed               of the buckets' permutation; 0.

    Raises ValueError for a number that is absurd whatever n is.
    """

    f: int = 0
    beyond_guarantee: bool = False
    krum_m: int | None = None
    bulyan_pool: int | None = None
    bulyan_inner: int | None = None
    bulyan_average: int | None = None
    cclip_tau: float = 10.0
    cclip_iterations: int = 1
    rfa_nu: float = 1e-6
    rfa_iterations: int = 3
    huber_threshold: float = 0.2
    huber_iterations: int = 100
    bucket_size: int = 1
    nnm: bool = False
    size_cap: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in _AT_LEAST.items():
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"{name}={value}: a whole number of at least {least} is expected")
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value}: a finite number above 0 is expected")


@dataclass(frozen=True, eq=False)
class Call:
    """What a rule is told besides the updates, in the units of the updates.

    settings  with thresholds already converted from units of g.
    center    (d,): where a rule with a memory left off; None for the others.
    honest    (n,): who is honest, known in a simulation only.
    sizes     (n,): the examples each silo claims, at least 0; read under a size_cap only.
    """

    settings: RuleSettings
    center: Vector | None = None
    honest: Mask | None = None
    sizes: Vector | None = None


@dataclass(frozen=True)
class Rows:
    """How many rows a rule needs, as a function of f and as a person reads it."""

    text: str
    least: Callable[[int], int]


# Whatever needs an honest majority and nothing more.
MAJORITY = Rows("2f + 1", lambda f: 2 * f + 1)
# At least one honest row: without one there is nothing to find.
ONE_HONEST = Rows("f + 1", lambda f: f + 1)


@dataclass(frozen=True)
class Rule:
    """An entry of the registry.

    guarantee  the rows the paper's condition asks for; defined: those below which the formula has no value at all.
    remembers  it starts each round from its last result (Call.center).
    simulated  it needs to know who is honest.
    """

    summary: str
    source: str
    guarantee: Rows
    defined: Rows
    run: Callable[[Floats, Call], Aggregate]
    remembers: bool = False
    simulated: bool = False


@dataclass(frozen=True)
class PreAggregation:
    """A step that may stand before any rule: the line `fedlaw list` prints."""

    summary: str
    source: str
