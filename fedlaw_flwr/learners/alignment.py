"""FedLAW without losses, for clients that report none: scores by alignment alone."""

from dataclasses import replace

import numpy as np

from fedlaw_flwr.core.blocks import Vector
from fedlaw_flwr.learners import fedlaw
from fedlaw_flwr.learners.interface import Learner, Mask, Pieces
from fedlaw_flwr.learners.options import WeightOptions


def no_losses(losses: Vector) -> tuple[Vector, Mask]:
    """A loss of 0 for every silo, so that h = w + (beta / alpha) Delta z; none counts as raised."""
    return np.zeros_like(losses), np.zeros(losses.shape, bool)


def build(options: WeightOptions) -> Pieces:
    """FedLAW's pieces with every loss taken for 0."""
    return replace(fedlaw.build(options), filter_losses=no_losses)


LEARNER = Learner("FedLAW without losses: scores by alignment alone", "ours", build, needs_loss=False)
