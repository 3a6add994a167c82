"""FedLAW with every update's alignment at the median norm: length earns nothing. Studied here; not a default."""

from dataclasses import replace

import numpy as np

from fedlaw_flwr.core.blocks import Floats, Vector, norm, single_inner_products
from fedlaw_flwr.learners import fedlaw
from fedlaw_flwr.learners.interface import Learner, Pieces
from fedlaw_flwr.learners.options import WeightOptions


def align(updates: Floats, direction: Floats) -> Vector:
    """<delta_i, z> median_j |delta_j| / |delta_i|."""
    norms = np.array([norm(row) for row in updates])
    scaled: Vector = single_inner_products(updates, direction) * np.median(norms) / np.maximum(norms, 1e-30)
    return scaled


def build(options: WeightOptions) -> Pieces:
    """FedLAW's pieces with another alignment."""
    return replace(fedlaw.build(options), align=align)


LEARNER = Learner(
    "FedLAW with every alignment at the median norm",
    "ours, docs/research/defences.md",
    build,
)
