"""FedLAW with a smaller step in each weight round: beta / k in the k-th. Studied here; not a default."""

from dataclasses import replace

from fedlaw_flwr.core.blocks import Vector
from fedlaw_flwr.core.scores import finite, score
from fedlaw_flwr.core.state import State
from fedlaw_flwr.learners import fedlaw
from fedlaw_flwr.learners.interface import Evidence, Learner, Pieces, Score
from fedlaw_flwr.learners.options import WeightOptions


class FallingScore(Score):
    """FedLAW's score with the step beta / k^power in the k-th weight round (Robbins and Monro 1951)."""

    def __init__(self, beta: float, power: float) -> None:
        self.beta, self.power = beta, power
        self._weight_rounds = 0

    def __call__(self, evidence: Evidence) -> Vector:
        self._weight_rounds += 1
        beta = self.beta / self._weight_rounds**self.power
        return finite(score(evidence.weights, evidence.alignment, evidence.losses, evidence.alpha, beta))

    def state(self) -> State:
        return State({"weight_rounds": self._weight_rounds})

    def restore(self, state: State) -> None:
        self._weight_rounds = int(state.values["weight_rounds"])


def build(options: WeightOptions) -> Pieces:
    """FedLAW's pieces with the step beta / k."""
    return replace(fedlaw.build(options), score=FallingScore(options.beta, 1.0))


LEARNER = Learner(
    "FedLAW with the step beta / k in the k-th weight round",
    "ours, docs/research/defences.md",
    build,
)
