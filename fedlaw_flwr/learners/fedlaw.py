"""FedLAW: scores by alignment and loss at a trial model, projected on D(s, t) (ICLR 2026, Algorithm 2)."""

from collections.abc import Collection, Hashable
from functools import partial

import numpy as np

from fedlaw_flwr.core.blocks import Floats, Vector, rounded_sum, single_inner_products
from fedlaw_flwr.core.clipping import clip_threshold
from fedlaw_flwr.core.clusters import clusters
from fedlaw_flwr.core.history import ScoreHistory
from fedlaw_flwr.core.losses import raise_low_losses
from fedlaw_flwr.core.projection import project
from fedlaw_flwr.core.scores import finite, score
from fedlaw_flwr.core.standing import Standing
from fedlaw_flwr.core.state import State
from fedlaw_flwr.learners.interface import Clip, Evidence, Learner, LossFilter, Mask, Pieces, Rows, Score
from fedlaw_flwr.learners.options import WeightOptions


class GradientScore(Score):
    """h = w + (beta / alpha) Delta z - beta f~ (FedLAW, Algorithm 2, in delta form)."""

    def __init__(self, beta: float) -> None:
        self.beta = beta

    def raw(self, evidence: Evidence, weights: Vector) -> Vector:
        """The score from these weights (g,), before it is made finite."""
        return score(weights, evidence.alignment, evidence.losses, evidence.alpha, self.beta)

    def __call__(self, evidence: Evidence) -> Vector:
        return finite(self.raw(evidence, evidence.weights))


class DecayedScore(GradientScore):
    """h = 1/g + y, with y <- decay y + (beta / alpha) Delta z - beta f~ for every silo (`ScoreHistory`)."""

    def __init__(self, beta: float, decay: float) -> None:
        super().__init__(beta)
        self.decay = decay
        self._history = ScoreHistory()

    def __call__(self, evidence: Evidence) -> Vector:
        now = finite(self.raw(evidence, np.zeros_like(evidence.weights)))
        first = 0.0 if evidence.sampled else None  # of a sample most newcomers were only not drawn before
        y = self._history.add(evidence.silos, evidence.per_silo(now), self.decay, first)
        return 1.0 / evidence.weights.size + evidence.per_unit(y)

    def forfeit(self, silos: Collection[Hashable]) -> None:
        self._history.lower(silos)

    def forget(self) -> None:
        self._history.forget()

    def state(self) -> State:
        return self._history.state()

    def restore(self, state: State) -> None:
        self._history.restore(state)


def clip_rule(clip: str | float) -> Clip:
    """The clip threshold that the setting `clip` names."""

    def threshold(norms: Vector, byzantine: int, alpha: float, honest: Mask) -> float | None:
        if clip == "none":
            return None
        if clip == "rank":
            return clip_threshold(norms, byzantine)
        if clip == "oracle":
            return float(norms[honest].max(initial=0.0))
        return float(clip) * alpha

    return threshold


def loss_filter(on: bool, fence: float) -> LossFilter:
    """The loss filter of Appendix C, or none."""
    return partial(raise_low_losses, width=fence) if on else lambda losses: (losses, losses < -np.inf)


def conflicting(updates: Floats, w: Vector) -> Rows:
    """The rows with weight that point against the step: w_i > 0 and <delta_i, sum_j w_j delta_j> < 0."""
    along = single_inner_products(updates, rounded_sum(w, updates))
    return np.flatnonzero((w > 0) & (along < 0))


def projected(scores: Vector, evidence: Evidence) -> Vector:
    """The projection of the scores on D(s, t)."""
    return project(scores, evidence.simplex.s, evidence.simplex.t)


def build(options: WeightOptions) -> Pieces:
    """FedLAW's pieces; with `score_decay`, `cluster_distance` and `relearn_on_conflict` those of our own."""
    distance = options.cluster_distance
    return Pieces(
        clip=clip_rule(options.clip),
        find_clusters=(lambda updates, byzantine: clusters(updates, distance, byzantine)) if distance else None,
        standing=Standing(options.schedule()),
        find_conflicts=conflicting if options.relearn_on_conflict else None,
        filter_losses=loss_filter(options.loss_filter, options.loss_fence),
        align=single_inner_products,
        score=DecayedScore(options.beta, options.score_decay) if options.score_decay else GradientScore(options.beta),
        select=projected,
    )


LEARNER = Learner(
    "scores by alignment and loss at a trial model, projected on D(s, t)", "ICLR 2026, Algorithm 2", build
)
