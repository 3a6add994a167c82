"""What a way to learn weights is made of: pieces, each a pure function or a small object, and what they are handed."""

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.blocks import Floats, Vector
from fedlaw_flwr.core.simplex import Simplex
from fedlaw_flwr.core.standing import Standing
from fedlaw_flwr.core.state import State
from fedlaw_flwr.learners.options import WeightOptions

Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Evidence:
    """What one weight round says of the m silos that were scored.

    Silos of one cluster are scored as one unit; without clusters every silo is a unit of its own.

    Attributes:
        silos: Who they are, m keys.
        units: The unit of each silo, (m,), labels 0 .. g-1.
        weights: The weight of each unit at the trial model, (g,), sum 1.
        alignment: <delta_i, z> with z = sum_j w_j delta~_j, the mean over the unit, (g,).
        losses: f~, the loss at the trial model after the loss filter, the mean over the unit, (g,).
        alpha: The step of the silos' local training.
        simplex: The weights allowed, D(s, t) over the g units.
        sampled: Whether the server asks a part of the silos in a round. Default: no.
    """

    silos: Sequence[Hashable]
    units: Rows
    weights: Vector
    alignment: Vector
    losses: Vector
    alpha: float
    simplex: Simplex
    sampled: bool = False

    @property
    def sizes(self) -> NDArray[np.intp]:
        """How many silos each unit has, (g,)."""
        return np.bincount(self.units)

    def per_unit(self, values: Vector) -> Vector:
        """The mean over each unit, (g,), of a value for each silo, (m,)."""
        return np.bincount(self.units, values) / self.sizes

    def per_silo(self, values: Vector) -> Vector:
        """The value of each silo's unit, (m,), of a value for each unit, (g,)."""
        return values[self.units]


class Score:
    """Scores the units of a weight round: the higher, the more weight. Subclasses say how, and may keep a history."""

    def __call__(self, evidence: Evidence) -> Vector:
        """The scores h, (g,), finite."""
        raise TypeError(f"{type(self).__name__} must define __call__(evidence)")

    def forfeit(self, silos: Collection[Hashable]) -> None:
        """Called with the silos that sent an update and were not scored."""

    def forget(self) -> None:
        """Called where weights are learned anew, from equal ones."""

    def state(self) -> State:
        """What a history is, for a run that is resumed (`core.state`); nothing where none is kept."""
        return State()

    def restore(self, state: State) -> None:
        """Takes back what `state` said."""


@dataclass(frozen=True)
class PeerEvidence:
    """What one weight round of peer review says of the m silos with a usable update.

    Attributes:
        silos: Who they are, m keys.
        support: M, (m, m): by how much the update of silo i (row) would lower the loss of reviewer j (column), to first
            order, as a cosine; NaN on the diagonal and in the column of a silo without a valid review.
        agreement: A, (m, m), symmetric: the cosine between the reviews of silos i and j; NaN on the diagonal and in row
            and column of a silo without a valid review.
        root: The support of each update by the server's own review, (m,); None where the server has no examples.
        losses: f, the class-balanced losses at the model sent out, (m,); NaN where none was reported.
        excess: e, by how far the norm exceeds the clip threshold: log(|delta_i| / 1.5 C), cut to 0 to 3, (m,).
        trusted: The reviewers whose voice the operator vouches for, (m,).
        simplex: The weights that FedLAW allows over these silos; b' and s are read from it.
    """

    silos: Sequence[Hashable]
    support: Vector
    agreement: Vector
    root: Vector | None
    losses: Vector
    excess: Vector
    trusted: Mask
    simplex: Simplex


@dataclass(frozen=True)
class Judgement:
    """What peer review concludes.

    Attributes:
        weights: The weights of this round's step, (m,), sum 1.
        lasting: The weights that are frozen if this was the last weight round, (m,), sum 1.
        vouching: The rows of S, the set that vouches most for itself.
        followed: The rows along whose reviews the model steps, where they are valid and not 0.
        approval: The mean over j in S and the rounds so far of the relative support that reviewer j gives silo i, (m,).
        assent: The same of the relative support that silo i as a reviewer gives j, (m,).
    """

    weights: Vector
    lasting: Vector
    vouching: Rows
    followed: Rows
    approval: Vector
    assent: Vector


class Judge:
    """Concludes from one weight round of peer review, and the rounds before, who carries weight."""

    def __call__(self, evidence: PeerEvidence) -> Judgement:
        """The judgement of this round; what the round says is added to what earlier rounds said."""
        raise TypeError(f"{type(self).__name__} must define __call__(evidence)")

    def forget(self) -> None:
        """Called where weights are learned anew."""

    def state(self) -> State:
        """What earlier rounds said, for a run that is resumed (`core.state`)."""
        raise TypeError(f"{type(self).__name__} must define state() and restore(state)")

    def restore(self, state: State) -> None:
        """Takes back what `state` said."""
        raise TypeError(f"{type(self).__name__} must define state() and restore(state)")


Clip = Callable[[Vector, int, float, Mask], float | None]
"""(norms (m,), b', alpha, who is honest (m,)) -> the longest an update may be; None: updates are not clipped."""

LossFilter = Callable[[Vector], tuple[Vector, Mask]]
"""losses (m,) -> the losses to believe (m,), and which of them were changed (m,)."""

Align = Callable[[Floats, Floats], Vector]
"""(updates (m, d), z (d,)) -> how far each update points along z, (m,)."""

Select = Callable[[Vector, Evidence], Vector]
"""(scores (g,), evidence) -> the weights (g,), in D(s, t)."""

FindClusters = Callable[[Floats, int], Rows]
"""(updates (m, d), b') -> a label for each silo, (m,), shared by those of a cluster."""

FindConflicts = Callable[[Floats, Vector], Rows]
"""(updates (m, d), w (m,)) -> the rows of silos with weight that point against the step that w gives."""


@dataclass(frozen=True)
class Pieces:
    """The pieces of one way to learn weights, in the order in which a weight round uses them.

    Attributes:
        clip: The threshold to which updates are clipped.
        find_clusters: The clusters among the updates; None: none are looked for.
        standing: The weights between rounds, and when they are learned.
        find_conflicts: With frozen weights: who points against the step; a conflict makes the round a weight round.
            None: weights stay frozen.
        forget_on_conflict: Whether a conflict also makes all weights equal first.
        filter_losses: Which losses are not believed as reported.
        align: How far each update points along z.
        score: The scores of a weight round.
        select: The weights that follow from the scores.
        judge: Learns the weights from what silos say of one another's updates, in exchange 1. Where it is given there
            is no exchange 2, and `filter_losses`, `align`, `score` and `select` are not used. None: there are no
            reviews.
    """

    clip: Clip
    find_clusters: FindClusters | None
    standing: Standing
    find_conflicts: FindConflicts | None
    filter_losses: LossFilter
    align: Align
    score: Score
    select: Select
    forget_on_conflict: bool = False
    judge: Judge | None = None


@dataclass(frozen=True)
class Learner:
    """An entry of the registry.

    Attributes:
        summary: What it does, one line.
        source: The paper and section, or "ours".
        build: Its pieces, new for every run.
        needs_loss: Whether its scores read the losses that silos report. Default: yes.
        samples: Whether it works where a part of the silos is asked in a round. Default: yes.
    """

    summary: str
    source: str
    build: Callable[[WeightOptions], Pieces]
    needs_loss: bool = True
    samples: bool = True
