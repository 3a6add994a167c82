"""FedLAW with losses replaced by their ranks. Studied here; not a default."""

from dataclasses import replace

import numpy as np

from fedlaw_flwr.core.blocks import Vector
from fedlaw_flwr.core.losses import median_and_deviation, raise_low_losses
from fedlaw_flwr.learners import fedlaw
from fedlaw_flwr.learners.interface import Learner, LossFilter, Mask, Pieces
from fedlaw_flwr.learners.options import WeightOptions


def ranked(width: float) -> LossFilter:
    """Losses by rank, spread evenly over `width` deviations (1.4826 MAD) on each side of the median."""

    def by_rank(losses: Vector) -> tuple[Vector, Mask]:
        _, low = raise_low_losses(losses, width)
        median, deviation = median_and_deviation(losses)
        return median + deviation * np.linspace(-width, width, losses.size)[losses.argsort().argsort()], low

    return by_rank


def build(options: WeightOptions) -> Pieces:
    """FedLAW's pieces with another loss filter."""
    return replace(fedlaw.build(options), filter_losses=ranked(options.loss_fence))


LEARNER = Learner(
    "FedLAW with losses replaced by their ranks",
    "ours, docs/research/defences.md",
    build,
)
