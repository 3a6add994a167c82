"""Backdoor: a black square in the centre of every image, its label drawn at random (FedLAW, I.1)."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fedlaw_flwr.attacks.base import Attack
from fedlaw_flwr.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from fedlaw_flwr.tasks.base import Examples, Task

_PIXELS = 8
"""The side of the paper's square, on images of 28 and of 32 pixels."""


def triggered(inputs: "Tensor") -> "Tensor":
    """A copy of the images with the trigger in each.

    The trigger is in the centre (rounded to the upper left). It is 8 x 8 pixels on images of 28 x 28 and of 32 x 32 as
    in the paper. A side below 28 has as much of it as MNIST's, 2/7, at least a pixel; a side above 32 as much as
    CIFAR's, a quarter (both our choice). It is black in every channel: the smallest value among the inputs, which
    standardising maps black to wherever any pixel is black.

    Args:
        inputs: The images, (m, channels, height, width).
    """
    marked = inputs.clone()
    where = [_centre(side) for side in inputs.shape[-2:]]
    if len(inputs):
        marked[..., where[0], where[1]] = inputs.min()
    return marked


def refuse_without_images(attack: str, task: "Task") -> None:
    """Raises ValueError where the task's inputs are no images."""
    if not task.is_image:
        raise InputError(f"attack={attack!r}: a trigger is a square of pixels, and task {task.name!r} has no images")


def poison(examples: "Examples", task: "Task", rng: np.random.Generator) -> "Examples":
    """Every image with the trigger, every label drawn uniformly from 0 .. L-1, the same in each round."""
    refuse_without_images("backdoor", task)
    labels = examples.targets.new_tensor(rng.integers(task.num_labels, size=len(examples)))
    return replace(examples, inputs=triggered(examples.inputs), targets=labels)


def _centre(side: int) -> slice:
    width = max(1, round(_PIXELS * side / min(max(side, 28), 32)))
    return slice((side - width) // 2, (side - width) // 2 + width)


ATTACK = Attack(
    "backdoor",
    "a black square in every image, labels drawn at random",
    "FedLAW, I.1",
    poison=poison,
    needs_images=True,
)
