"""FedLAW with a smaller step in each weight round: beta / sqrt(k) in the k-th. Studied here; not a default."""

from dataclasses import replace

from fedlaw_flwr.learners import fedlaw
from fedlaw_flwr.learners.falling import FallingScore
from fedlaw_flwr.learners.interface import Learner, Pieces
from fedlaw_flwr.learners.options import WeightOptions


def build(options: WeightOptions) -> Pieces:
    """FedLAW's pieces with the step beta / sqrt(k)."""
    return replace(fedlaw.build(options), score=FallingScore(options.beta, 0.5))


LEARNER = Learner(
    "FedLAW with the step beta / sqrt(k) in the k-th weight round", "ours, docs/research/defences.md", build
)
