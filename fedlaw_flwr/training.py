"""Algorithm 1, the honest silo's round: local epochs of plain SGD from the received model, and the loss it reports."""

import numpy as np
import torch
from torch import nn

from fedlaw_flwr.tasks.base import Examples, Task

LOSS_AT = ("trained", "received")
"""Where f_i is taken: at psi_i after training (Algorithm 1 of the paper), or at the broadcast point (its eq. 151)."""

_EVALUATION_BATCH = 2048


def train(
    model: nn.Module,
    task: Task,
    examples: Examples,
    *,
    lr: float,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
) -> None:
    """Takes theta to psi_i, in place: `epochs` passes over the examples in a fresh order each, psi <- psi - lr grad.

    Plain mini-batch SGD, no momentum and no decay, so that theta - psi_i = lr g_i (FedLAW, Algorithm 1); the last
    batch of an epoch is as short as it comes. rng decides the orders; the process's global RNGs are not touched.
    Runs on the model's device.
    """
    device = next(model.parameters()).device
    inputs, targets = examples.inputs.to(device), examples.targets.to(device)
    optimiser = torch.optim.SGD(model.parameters(), lr=lr)
    model.train()
    for _ in range(epochs):
        order = torch.from_numpy(rng.permutation(len(examples))).to(device)
        for batch in order.split(batch_size):
            optimiser.zero_grad(set_to_none=True)
            task.loss(model(inputs[batch]), targets[batch]).backward()
            optimiser.step()


@torch.no_grad()
def mean_loss(model: nn.Module, task: Task, examples: Examples) -> float:
    """f_i: the mean loss over all the examples, the model in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    total = 0.0
    for start in range(0, len(examples), _EVALUATION_BATCH):
        inputs = examples.inputs[start : start + _EVALUATION_BATCH].to(device)
        targets = examples.targets[start : start + _EVALUATION_BATCH].to(device)
        total += float(task.loss(model(inputs), targets)) * len(inputs)
    return total / len(examples)


@torch.no_grad()
def evaluate(model: nn.Module, task: Task, examples: Examples) -> dict[str, float]:
    """The task's metrics and its mean loss over the examples, the model in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    outputs = torch.cat([model(part.to(device)).cpu() for part in examples.inputs.split(_EVALUATION_BATCH)])
    return {"loss": float(task.loss(outputs, examples.targets)), **task.metrics(outputs, examples.targets)}


def local_round(
    model: nn.Module,
    task: Task,
    examples: Examples,
    *,
    lr: float,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
    loss_at: str,
    wants_update: bool = True,
) -> float:
    """One exchange on a silo: trains the model in place and returns its loss f_i, taken where `loss_at` says.

    Where only the loss is wanted and it is taken at the received model, nothing is trained. Raises ValueError for an
    unknown loss_at.
    """
    if loss_at not in LOSS_AT:
        raise ValueError(f"loss-at={loss_at!r}: allowed are {', '.join(LOSS_AT)}")
    received = mean_loss(model, task, examples) if loss_at == "received" else None
    if wants_update or received is None:
        train(model, task, examples, lr=lr, epochs=epochs, batch_size=batch_size, rng=rng)
    return mean_loss(model, task, examples) if received is None else received
