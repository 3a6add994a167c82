"""FedLAW that learns from equal weights after a conflict. Studied here; not a default."""

from dataclasses import replace

from fedlaw_flwr.learners import fedlaw
from fedlaw_flwr.learners.interface import Learner, Pieces
from fedlaw_flwr.learners.options import WeightOptions


def build(options: WeightOptions) -> Pieces:
    """FedLAW's pieces; a silo with weight that points against the step makes all weights be learned anew."""
    return replace(fedlaw.build(options), find_conflicts=fedlaw.conflicting, forget_on_conflict=True)


LEARNER = Learner(
    "FedLAW that learns from equal weights after a conflict",
    "ours, docs/research/defences.md",
    build,
)
