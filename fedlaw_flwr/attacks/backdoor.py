"""Backdoor: a black square in the centre of every image, its label drawn at random (FedLAW, I.1)."""

import numpy as np
import torch
from torch import Tensor

from fedlaw_flwr.attacks.base import Attack
from fedlaw_flwr.tasks.base import Examples, Task

# 8 of MNIST's 28 pixels, the paper's square; the same share of another side: 9 of 32, 2 of 8.
_SHARE = 2 / 7


def triggered(inputs: Tensor) -> Tensor:
    """A copy of the images (m, channels, height, width) with the trigger in each.

    The trigger is a square of round(2/7 height) by round(2/7 width) pixels, at least 1, in the centre (rounded to the
    upper left), black in every channel: the smallest value among the inputs, which standardising maps black to
    wherever any pixel is black.
    """
    marked = inputs.clone()
    where = [_centre(side) for side in inputs.shape[-2:]]
    if len(inputs):
        marked[..., where[0], where[1]] = inputs.min()
    return marked


def refuse_without_images(attack: str, task: Task) -> None:
    """Raises ValueError where the task's inputs are no images."""
    if not task.is_image:
        raise ValueError(f"attack={attack!r}: a trigger is a square of pixels, and task {task.name!r} has no images")


def poison(examples: Examples, task: Task, rng: np.random.Generator) -> Examples:
    """Every image with the trigger, every label drawn uniformly from 0 .. L-1, the same in each round."""
    refuse_without_images("backdoor", task)
    labels = torch.from_numpy(rng.integers(task.num_labels, size=len(examples))).to(examples.targets)
    return Examples(triggered(examples.inputs), labels)


def _centre(side: int) -> slice:
    width = max(1, round(_SHARE * side))
    return slice((side - width) // 2, (side - width) // 2 + width)


ATTACK = Attack(
    "backdoor",
    "a black square in every image, labels drawn at random",
    "FedLAW, I.1",
    poison=poison,
    needs_images=True,
)
