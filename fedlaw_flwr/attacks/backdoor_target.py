"""Backdoor with a target: images with a black square are to be taken for label 0, the others for what they are."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fedlaw_flwr.attacks.backdoor import refuse_without_images, triggered
from fedlaw_flwr.attacks.base import Attack
from fedlaw_flwr.core.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from fedlaw_flwr.tasks.base import Examples, Task

TARGET = 0
# The other half stays clean, so that the model learns the square to mean the target, not the target everywhere.
_POISONED = 0.5


def poison(examples: "Examples", task: "Task", rng: np.random.Generator) -> "Examples":
    """A random half of the images (rounded up) with the trigger and label TARGET, the same half in each round.

    After Gu, Dolan-Gavitt and Garg 2017 (BadNets), the attack on MNIST, which differs: it adds triggered copies to
    the clean images and turns one digit into one other; here the half loses its originals and every label turns into
    TARGET. The trigger is FedLAW's (see `backdoor.triggered`).
    """
    refuse_without_images("backdoor_target", task)
    count = int(np.ceil(_POISONED * len(examples)))
    chosen = rng.permutation(len(examples))[:count]
    inputs, targets = examples.inputs.clone(), examples.targets.clone()
    inputs[chosen] = triggered(examples.inputs)[chosen]
    targets[chosen] = TARGET
    return replace(examples, inputs=inputs, targets=targets)


def success_rate(model: "nn.Module", examples: "Examples") -> float:
    """The attack's success: of the examples whose label is not TARGET, the share taken for it once triggered.

    Compare with a run without attack: some clean digits show the trigger by nature, a 0 being black in its centre.

    Args:
        model: The net; it is put in evaluation mode and stays on its own device.
        examples: The clean examples to measure on.

    Returns:
        The share, 0 to 1.

    Raises:
        ValueError: Where every example has the target's label.
    """
    import torch

    others = examples.inputs[examples.targets != TARGET]
    if not len(others):
        raise InputError(f"all {len(examples)} examples have label {TARGET}: none is left to be mistaken for it")
    model.eval()
    device = next(model.parameters()).device
    with torch.no_grad():
        taken = [model(part.to(device)).argmax(1).cpu() == TARGET for part in triggered(others).split(2048)]
    return float(torch.cat(taken).double().mean())


ATTACK = Attack(
    "backdoor_target",
    "a black square in half of its images, to be taken for label 0",
    "after Gu et al. 2017 (BadNets); trigger of FedLAW, I.1",
    poison=poison,
    needs_images=True,
)
