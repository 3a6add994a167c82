"""The settings of FedLAW's weights: each defined here, once."""

from dataclasses import dataclass
from typing import Any

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.schedule import Schedule
from fedlaw_flwr.core.setting import check_settings, setting
from fedlaw_flwr.core.simplex import Simplex
from fedlaw_flwr.learners import LEARNERS

CLIPS = ("rank", "none", "oracle")
"""The clip thresholds that have a name."""


def _clip(value: Any) -> Any:
    if (isinstance(value, str) and value not in CLIPS) or (not isinstance(value, str) and not value > 0):
        raise InputError(f"allowed are {', '.join(CLIPS)}, or a norm above 0 in units of g")
    return value


REVIEW_STEP = 0.5
"""The default of review_step; of 0.3, 0.5, 1 and 2 the one that held on seeds 0 to 7 (docs/research/peer-review.md)."""

REVIEW_PARTS = (
    *("rank", "size", "contrast", "agreement"),
    *("set", "trim", "evidence", "assent"),
    *("loss", "norm", "mean", "decay", "majority"),
)
"""The parts of peer review that an ablation may leave out."""


def _without(value: str) -> str:
    for part in value.split(",") if value else []:
        if part not in REVIEW_PARTS:
            raise InputError(f"{part!r} is not one of {', '.join(REVIEW_PARTS)}")
    return value


def _loss_floor(value: Any) -> Any:
    if value is None:
        return "none"
    if isinstance(value, str) and value != "none":
        raise InputError("a finite number is expected, the least loss that is believed, or none")
    return value


@dataclass(kw_only=True)
class WeightOptions:
    """How FedLAW learns its weights"""

    variant: str = setting(
        "fedlaw", "the way in which weights are learned; `fedlaw list` says what each does", choices=LEARNERS
    )
    beta: float = setting(0.01, "step of the weights", above=0)
    s: int = setting(0, "most silos that may carry weight; 0: n - b", least=0)
    t: float = setting(0.0, "most weight of one silo; 0: 1/(s-10) from s = 100 up, else 12/(11 s)", least=0, most=1)
    s_start: int = setting(
        0,
        "s of the first round, lowered to s over the weight rounds, for a number of attackers that is not known; 0: s "
        "from the first round on",
        least=0,
    )
    weight_rounds: int = setting(
        20,
        "rounds in which weights are learned, from the first on; then they are frozen; -1: all",
        least=-1,
        unit="rounds",
    )
    refresh_every: int = setting(
        0,
        "after the weight rounds, weights are learned again in one round of so many; 0: never",
        least=0,
        unit="rounds",
    )
    warm_rounds: int = setting(
        0, "of the weight rounds, this many at first keep equal weights; 0: none", least=0, unit="rounds"
    )
    clip: str | float = setting(
        "rank",
        "the longest an update may be: rank, the (m - b')-th smallest norm of the round; none; a norm; oracle, the "
        "largest honest norm (experiments only)",
        allowed="rank, none, oracle, or a norm above 0",
        unit="units of g",
        choices=CLIPS,
        check=_clip,
    )
    loss_filter: bool = setting(True, "raise losses that lie far below the others to the fence (from 8 silos up)")
    loss_fence: float = setting(
        3.0, "where the fence of the loss filter stands, below the median", least=0, unit="deviations (1.4826 MAD)"
    )
    loss_floor: float | str = setting(
        0.0,
        "a reply whose loss is below this is rejected; none where losses may be negative; other rules read no losses",
        allowed="a number, or none",
        check=_loss_floor,
    )
    score_decay: float = setting(
        0.0,
        "0: the score uses the current round only; above 0, each earlier weight round counts this fraction of the next",
        least=0,
        most=1,
        formerly="memory",
    )
    cluster_distance: float = setting(
        0.0,
        "silos whose updates point the same way, give or take this, are scored and weighed as one silo; 0: off",
        least=0,
        below=2,
        unit="chord between unit vectors; 0.05 is 3 degrees",
        formerly="coalition-distance",
    )
    relearn_on_conflict: bool = setting(
        False,
        "with frozen weights: learn them again in a round in which a silo with weight points against the step",
        formerly="watch",
    )
    loss_only_replies: bool = setting(
        True,
        "ask silos without weight for their loss alone in exchange 2; false where it must stay secret who has weight",
        formerly="thrift",
    )

    trusted: str = setting(
        "",
        "with variant review: registered names of silos that the operator vouches for; theirs are then the only voices "
        "that count",
        allowed="bonn,aachen",
    )
    review_step: float = setting(
        REVIEW_STEP,
        "with variant review: how far the model also steps along the reviews of the set that vouches for itself; 0: "
        "updates alone move it",
        least=0,
        unit="mean length of an update",
    )
    review_without: str = setting(
        "",
        "with variant review, for ablations: parts to leave out (rank, size, contrast, agreement, set, trim, evidence, "
        "assent, loss, norm, mean, decay, majority)",
        allowed="rank,mean",
        check=_without,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        check_together(self)

    @property
    def trusted_names(self) -> frozenset[str]:
        """The names in `trusted`."""
        return frozenset(name for part in self.trusted.split(",") if (name := part.strip()))

    def schedule(self) -> Schedule:
        """The rounds in which weights are learned."""
        return Schedule(self.weight_rounds, self.refresh_every, self.warm_rounds)


def check_together(options: WeightOptions) -> None:
    """Checks what no setting alone can tell.

    Raises:
        ValueError: If the settings do not hold together.
    """
    options.schedule()
    if options.s_start and options.weight_rounds - options.warm_rounds < 2:
        raise InputError(
            f"s_start={options.s_start}, weight_rounds={options.weight_rounds}: s is lowered over the weight rounds, "
            "2 or more"
        )
    if options.score_decay and options.variant == "bsum":
        raise InputError(
            f"score_decay={options.score_decay}: variant='bsum' goes by the losses of one round alone; leave "
            "score_decay at 0"
        )
    if options.variant == "review" and (options.score_decay or options.cluster_distance or options.s_start):
        raise InputError(
            f"score_decay={options.score_decay}, cluster_distance={options.cluster_distance}, "
            f"s_start={options.s_start}: variant='review' has none of these; leave them at 0"
        )
    if options.variant != "review" and (
        options.trusted or options.review_without or options.review_step != REVIEW_STEP
    ):
        raise InputError(
            f"trusted={options.trusted!r}, review_without={options.review_without!r}, "
            f"review_step={options.review_step}: only variant='review' reads them"
        )


def check_start(options: WeightOptions, simplex: Simplex) -> None:
    """Checks s_start for this many silos.

    Raises:
        ValueError: If s_start lies outside s to n.
    """
    if options.s_start and not simplex.s <= options.s_start <= simplex.n:
        raise InputError(
            f"s_start={options.s_start}: with n={simplex.n} silos and s={simplex.s}, allowed are {simplex.s} to "
            f"{simplex.n}; 0 is off"
        )
