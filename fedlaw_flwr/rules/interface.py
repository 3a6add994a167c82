"""What a rule is handed and what it returns, and the numbers a person may set."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedlaw_flwr.core.blocks import Floats, Vector
from fedlaw_flwr.core.setting import check_settings, setting
from fedlaw_flwr.rules.matrix import Mask
from fedlaw_flwr.rules.passes import weighted_rows


@dataclass(frozen=True, eq=False)
class Aggregate:
    """What a rule made of n updates.

    Attributes:
        update: (d,), of the updates' dtype.
        weights: (n,), float64, sum 1: the weight each row got; None where coordinates mix rows or a centre enters.
        kept: (n,): rows that survived the rule's selection; None for a rule that selects no rows.
    """

    update: Floats
    weights: Vector | None = None
    kept: Mask | None = None

    @classmethod
    def weighted(cls, updates: Floats, weights: Vector) -> "Aggregate":
        """sum_i w_i x_i."""
        return cls(weighted_rows(weights, updates).astype(updates.dtype), weights)

    @classmethod
    def mean_of(cls, updates: Floats, kept: Mask) -> "Aggregate":
        """The plain mean of the kept rows."""
        weights = kept / np.count_nonzero(kept)
        return cls(weighted_rows(weights, updates).astype(updates.dtype), weights, kept)


@dataclass(kw_only=True)
class RuleOptions:
    """The other rules (thresholds in units of g)"""

    krum_m: int = setting(0, "updates that Multi-Krum averages; 0: n - f (FedLAW, I.2: n - f - 2)", least=0)
    bulyan_pool: int = setting(
        0, "updates that Bulyan selects; 0: n - 2f; another number needs beyond-guarantee", least=0
    )
    bulyan_inner: int = setting(
        0,
        "neighbours that Bulyan's inner Krum counts; 0: r - f - 2 of r remaining rows, or beyond the guarantee "
        "n - f - 2 (FedLAW, I.2); another number needs beyond-guarantee",
        least=0,
    )
    bulyan_average: int = setting(
        0,
        "values that Bulyan averages per coordinate; 0: max(1, pool - 2f); another number needs beyond-guarantee",
        least=0,
    )
    cclip_tau: float = setting(
        10.0, "clipping radius of CClip (FedLAW: 0.1 or 10; Karimireddy et al. 2022: 10)", above=0, unit="units of g"
    )
    cclip_iterations: int = setting(1, "clipping steps of CClip in a round (FedLAW: 1)", least=1)
    rfa_nu: float = setting(1e-6, "smoothing of RFA (FedLAW: 1e-6; Pillutla et al.: 1e-5)", above=0, unit="units of g")
    rfa_iterations: int = setting(3, "Weiszfeld steps of RFA from the mean (FedLAW: 3)", least=1)
    huber_threshold: float = setting(
        0.2, "where Huber's loss turns linear (FedLAW: 0.12 or 0.2)", above=0, unit="units of g"
    )
    bucket_size: int = setting(1, "updates in a bucket before any rule; 1: no bucketing (FedLAW: 2)", least=1)
    nnm: bool = setting(False, "mix each update with its nearest neighbours before any rule (Allouah et al. 2023)")
    size_cap: int = setting(
        0, "fedavg only: weigh by min(num-examples, size-cap); 0: all silos weigh alike", least=0, unit="examples"
    )
    beyond_guarantee: bool = setting(False, "run a rule where its paper's condition on n and f fails")

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(kw_only=True)
class RuleSettings(RuleOptions):
    """The numbers of one rule in Python. Units of g: of the pseudo-gradient g = delta / alpha, whatever alpha is.

    Args:
        f: Silos assumed Byzantine, a count. Trimmed mean trims f a side. Default: 0.
        krum_m, bulyan_pool, bulyan_inner, bulyan_average: As in `RuleOptions`, None in place of 0.
        huber_iterations: Most steps of Huber's solver, which rarely needs them all. Default: 100.
        seed: Of the buckets' permutation. Default: 0.

    The other arguments are those of `RuleOptions`.

    Raises:
        ValueError: For a number that is absurd whatever n is.
    """

    f: int = setting(0, "silos assumed Byzantine", least=0)
    krum_m: int | None = setting(None, "updates that Multi-Krum averages", least=1)  # type: ignore[assignment]
    bulyan_pool: int | None = setting(None, "updates that Bulyan selects", least=1)  # type: ignore[assignment]
    bulyan_inner: int | None = setting(None, "neighbours that the inner Krum counts", least=1)  # type: ignore[assignment]
    bulyan_average: int | None = setting(None, "values that Bulyan averages", least=1)  # type: ignore[assignment]
    huber_iterations: int = setting(100, "most steps of Huber's solver", least=1)
    seed: int = setting(0, "of the buckets' permutation", least=0)


@dataclass(frozen=True, eq=False)
class Call:
    """What a rule is told besides the updates, in the units of the updates.

    Attributes:
        settings: The rule's numbers, with thresholds already converted from units of g.
        center: (d,): where a rule with a memory left off; None for the others.
        honest: (n,): who is honest, known in a simulation only.
        sizes: (n,): the examples each silo claims, at least 0; read under a size_cap only.
    """

    settings: RuleSettings
    center: Vector | None = None
    honest: Mask | None = None
    sizes: Vector | None = None


@dataclass(frozen=True)
class Rows:
    """How many rows a rule needs.

    Attributes:
        text: The number as a person reads it, such as "2f + 1".
        least: The number as a function of f.
    """

    text: str
    least: Callable[[int], int]


# Whatever needs an honest majority and nothing more.
MAJORITY = Rows("2f + 1", lambda f: 2 * f + 1)
# At least one honest row: without one there is nothing to find.
ONE_HONEST = Rows("f + 1", lambda f: f + 1)


@dataclass(frozen=True)
class Rule:
    """An entry of the registry.

    Attributes:
        summary: What the rule does, in one line.
        source: Where the rule is from.
        guarantee: The rows the paper's condition asks for.
        defined: The rows below which the formula has no value at all.
        run: The rule itself: from updates (n, d) and a call to the aggregate.
        remembers: Whether it starts each round from its last result (`Call.center`).
        simulated: Whether it needs to know who is honest.
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
