"""BSUM: the weights of least loss at the trial model, alignment left out (FedLAW, Appendix B)."""

from dataclasses import replace

from fedlaw_flwr.core.blocks import Vector
from fedlaw_flwr.core.scores import least_loss
from fedlaw_flwr.learners import fedlaw
from fedlaw_flwr.learners.interface import Evidence, Learner, Pieces
from fedlaw_flwr.learners.options import WeightOptions


def least(scores: Vector, evidence: Evidence) -> Vector:
    """argmin over w in D(s, t) of sum_i w_i f~_i, whatever the scores."""
    return least_loss(evidence.losses, evidence.simplex.s, evidence.simplex.t)


def build(options: WeightOptions) -> Pieces:
    """FedLAW's pieces with another selection."""
    return replace(fedlaw.build(options), select=least)


LEARNER = Learner("weights by least loss alone, the paper's ablation", "ICLR 2026, Appendix B", build)
