"""Label flipping: honest training on labels L - 1 - l (FedLAW, I.1)."""

import numpy as np

from fedlaw_flwr.attacks.base import Attack
from fedlaw_flwr.tasks.base import Examples


def poison(examples: Examples, num_labels: int, rng: np.random.Generator) -> Examples:
    """The same inputs with every label l replaced by num_labels - 1 - l."""
    return Examples(examples.inputs, num_labels - 1 - examples.targets)


ATTACK = Attack("label_flipping", "trains on labels L - 1 - l and reports honestly", "FedLAW, I.1", poison=poison)
