"""FedLAW with every update's alignment at the median norm: length earns nothing. Studied here; not a default."""

from dataclasses import replace

import numpy as np

from fedlaw_flwr.core.blocks import Floats, Vector, inner_products
from fedlaw_flwr.learners import fedlaw
from fedlaw_flwr.learners.interface import Learner, Pieces
from fedlaw_flwr.learners.options import WeightOptions


def align(updates: Floats, direction: Vector) -> Vector:
    """<delta_i, z> median_j |delta_j| / |delta_i|."""
    norms = np.linalg.norm(updates.astype(np.float64), axis=1)
    scaled: Vector = inner_products(updates, direction) * np.median(norms) / np.maximum(norms, 1e-30)
    return scaled


def build(options: WeightOptions) -> Pieces:
    """FedLAW's pieces with another alignment."""
    return replace(fedlaw.build(options), align=align)


LEARNER = Learner(
    "FedLAW with every alignment at the median norm",
    "ours, docs/research/defences.md",
    build,
)
