"""What a round brings to the weights, and what follows from it: a trial, a step or a round that keeps the model."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from fedlaw_flwr.core.blocks import Floats, Vector
from fedlaw_flwr.core.direction import Direction
from fedlaw_flwr.core.simplex import Simplex
from fedlaw_flwr.learners.interface import Mask, Rows


@dataclass(frozen=True)
class Reviews:
    """What the m silos of exchange 1 say of one another's updates, in a round in which reviews were asked for.

    Attributes:
        gradients: r_j, the gradient of each silo's class-balanced loss at the model sent out, (m, d), up to a factor.
        norms: The l2 norm of each row, (m,); NaN for a silo without a valid review.
        losses: The class-balanced losses, (m,); NaN where none was reported.
        trusted: The reviewers whose voice the operator vouches for, (m,).
        root: The gradient of the server's own class-balanced loss, (d,); None where it has no examples.
    """

    gradients: Floats
    norms: Vector
    losses: Vector
    trusted: Mask
    root: Vector | None = None


@dataclass(frozen=True)
class Updates:
    """What exchange 1 brought, a row for each of the m silos with a usable reply.

    Attributes:
        silos: Who they are, m keys.
        updates: delta_i = theta - psi_i, (m, d). Clipped in place.
        losses: f, (m,).
        norms: The l2 norms of the updates as they came, (m,).
        asked: How many silos there are: those that were asked, and those that the server left out.
        rejected: How many replies the gate rejected, and how many silos sit out because it did.
        honest: Who is honest, (m,): known in an experiment only, for `clip="oracle"`.
        reviews: Where reviews were asked for, what came. Default: None.
        sample: Where a part of the silos is asked in a round: who was asked. Default: None, everyone.
        pool: The silos of which the sample was drawn. Default: none, where there is no sample.
    """

    silos: Sequence[Hashable]
    updates: Floats
    losses: Vector
    norms: Vector
    asked: int
    rejected: int
    honest: Mask
    reviews: Reviews | None = None
    sample: frozenset[Hashable] | None = None
    pool: frozenset[Hashable] = frozenset()


@dataclass
class Account:
    """What a round's event says of the weights. Rows are those of `Updates`; losses and norms are as they came.

    Attributes:
        losses: f, (m,).
        norms: The norms in units of g, (m,).
        clip: The clip threshold in units of g; None: not clipped.
        clusters: The rows of each cluster found; None where none are looked for.
        phase: "learning" or "frozen".
        conflicts: The rows with weight that pointed against the step while weights were frozen.
        scored: The rows scored, k of them; None in a round without exchange 2.
        trial_losses: f~ as reported, (k,).
        raised: The scored rows whose loss the filter changed.
        alignment: The alignment term of each score, (beta / alpha) <delta_i, z>, (k,).
        scores: h, (k,).
        unscored: The rows that sent an update and were not scored.
        reviewers: The rows of the silos with a valid review; None in a round without reviews.
        vouching: The rows of the set that vouches most for itself.
        support: This round's M, (m, m), as in `PeerEvidence`.
        approval: The mean relative support of each silo by that set, over the rounds so far, (m,).
        assent: The mean relative support that each silo's own review gives that set, likewise, (m,).
        balanced_losses: The class-balanced losses as reported, (m,).
        weights: The weights of the step, (m,).
    """

    losses: Vector
    norms: Vector
    clip: float | None
    clusters: list[Rows] | None
    phase: str = "learning"
    conflicts: Rows | None = None
    scored: Rows | None = None
    trial_losses: Vector | None = None
    raised: Rows | None = None
    alignment: Vector | None = None
    scores: Vector | None = None
    unscored: Rows | None = None
    reviewers: Rows | None = None
    vouching: Rows | None = None
    support: Vector | None = None
    approval: Vector | None = None
    assent: Vector | None = None
    balanced_losses: Vector | None = None
    weights: Vector | None = None


@dataclass(frozen=True)
class Skip:
    """Keep the model in this round."""

    reason: str
    account: Account | None = None


@dataclass(frozen=True)
class Step:
    """Step along the updates with these weights (m,), and by `besides`.

    Attributes:
        weights: w, (m,).
        account: What the round's event says of it.
        besides: What is taken from the model besides sum_i w_i delta_i, (d,). Default: None, nothing.
    """

    weights: Vector
    account: Account
    besides: Vector | None = None


@dataclass(frozen=True)
class Trial:
    """Send every silo of exchange 1 the trial model, theta - sum_i w_i delta_i, and bring back what they say of it.

    Attributes:
        weights: w, (m,).
        direction: Where the updates at the trial model of silos with weight are added up.
        losses: f~, (m,), to be filled in; NaN for a silo that did not answer.
    """

    weights: Vector
    direction: Direction
    losses: Vector
    account: Account = field(repr=False)
    _updates: Updates = field(repr=False)
    _simplex: Simplex = field(repr=False)
    _units: Rows = field(repr=False)
    _round: int

    @property
    def carriers(self) -> Mask:
        """Who has weight, (m,): those whose update at the trial model is needed."""
        return self.weights > 0
