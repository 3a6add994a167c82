"""FedLAW with scores averaged over weight rounds: h_k <- 0.9 h_(k-1) + 0.1 h. Studied here; not a default."""

from dataclasses import replace

import numpy as np

from fedlaw_flwr.core.blocks import Vector
from fedlaw_flwr.core.scores import finite
from fedlaw_flwr.core.state import State
from fedlaw_flwr.learners import fedlaw
from fedlaw_flwr.learners.interface import Evidence, Learner, Pieces
from fedlaw_flwr.learners.options import WeightOptions

SHARE = 0.9
"""How much the average of the rounds before counts, the value that was studied."""


class AveragedScore(fedlaw.GradientScore):
    """hbar <- SHARE hbar + (1 - SHARE) h; started anew where another number of silos is scored."""

    def __init__(self, beta: float) -> None:
        super().__init__(beta)
        self._average: Vector | None = None

    def __call__(self, evidence: Evidence) -> Vector:
        h = self.raw(evidence, evidence.weights)
        if self._average is not None and self._average.shape == h.shape:
            h = SHARE * self._average + (1 - SHARE) * h
        self._average = h
        return finite(h)

    def state(self) -> State:
        return State(arrays={} if self._average is None else {"average": self._average.copy()})

    def restore(self, state: State) -> None:
        average = state.arrays.get("average")
        self._average = None if average is None else np.array(average, np.float64)


def build(options: WeightOptions) -> Pieces:
    """FedLAW's pieces with averaged scores."""
    return replace(fedlaw.build(options), score=AveragedScore(options.beta))


LEARNER = Learner(
    "FedLAW with scores averaged over rounds, 0.9 old to 0.1 new",
    "ours, docs/research/defences.md",
    build,
    samples=False,
)
