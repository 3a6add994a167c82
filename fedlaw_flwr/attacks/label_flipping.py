"""Label flipping: honest training on labels L - 1 - l (FedLAW, I.1)."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fedlaw_flwr.attacks.base import Attack

if TYPE_CHECKING:
    from fedlaw_flwr.tasks.base import Examples, Task


def poison(examples: "Examples", task: "Task", rng: np.random.Generator) -> "Examples":
    """The same inputs with every label l replaced by L - 1 - l, L = task.num_labels."""
    return replace(examples, targets=task.num_labels - 1 - examples.targets)


ATTACK = Attack("label_flipping", "trains on labels L - 1 - l and reports honestly", "FedLAW, I.1", poison=poison)
