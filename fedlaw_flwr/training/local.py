"""Algorithm 1, the honest silo's round: local epochs of plain SGD from the received model, and the loss it reports."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from fedlaw_flwr.core import seeding
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.protocol.gate import BY_CLASS, MOST_CLASSES
from fedlaw_flwr.tasks.base import Examples, Objective
from fedlaw_flwr.tasks.classification import accuracy_by_class
from fedlaw_flwr.training.options import LOSS_AT
from fedlaw_flwr.training.reviews import Review, review

EVALUATION_BATCH = 2048
"""Examples whose loss is taken at once; f_i is the mean over all, whatever this is."""


@dataclass(frozen=True)
class Job:
    """What one silo is asked for in one exchange, apart from the model: its local round, before it is done.

    Attributes:
        silo: The silo's number.
        examples: What it trains on.
        poison: The attack that changed the examples, empty for the silo's own as they are.
        seed: The run's, from which the silo's random streams follow.
        server_round: The round.
        exchange: The exchange, 1 or 2.
        lr: alpha, the step of local training.
        epochs: Passes over the examples.
        batch_size: Examples in a batch.
        loss_at: Where f_i is taken, one of LOSS_AT.
        wants_update: Whether the update is asked for; if not, the loss alone is.
        measured: What f_i is taken on, as many as it trains on; None: what it trains on.
        wants_review: Whether its review of the received model is asked for too.
        review_by: What the review is made of, one of REVIEW_BY.
    """

    silo: int
    examples: Examples
    poison: str  # the attack that changed the examples, empty for the silo's own as they are
    seed: int
    server_round: int
    exchange: int
    lr: float
    epochs: int
    batch_size: int
    loss_at: str
    wants_update: bool
    measured: Examples | None = None  # what f_i is taken on, as many as it trains on; None: what it trains on
    wants_review: bool = False
    review_by: str = "balanced-gradient"

    @property
    def loss_examples(self) -> Examples:
        """The examples that f_i is the mean over."""
        return self.examples if self.measured is None else self.measured

    def rng(self) -> np.random.Generator:
        """The stream that decides the orders of its batches, at its start."""
        return seeding.generator(self.seed, "batches", self.silo, self.server_round, self.exchange)

    def torch_seed(self) -> int:
        """Where torch's own generator stands while it trains, for nets that draw from it (dropout)."""
        return seeding.integer(self.seed, "torch", self.silo, self.server_round, self.exchange)


@dataclass(frozen=True)
class Trained:
    """What a local round gave.

    Attributes:
        loss: f_i.
        state: The state dict psi_i where the update was asked for, None where it was not.
        review: The review of the received model where it was asked for, None where it was not.
    """

    loss: float
    state: Mapping[str, Tensor] | None
    review: Review | None = None


def train(
    model: nn.Module,
    task: Objective,
    examples: Examples,
    *,
    lr: float,
    epochs: int,
    batch_size: int,
    rng: np.random.Generator,
) -> None:
    """Takes theta to psi_i, in place: psi <- psi - lr grad, batch after batch.

    Plain mini-batch SGD, no momentum and no decay, so that theta - psi_i = lr g_i (FedLAW, Algorithm 1). The last batch
    of an epoch is as short as it comes. The process's global RNGs are not touched.

    Args:
        model: The net with theta in it; training runs on its device.
        task: Whose loss is minimised.
        examples: What is trained on.
        lr: alpha, the step.
        epochs: Passes over the examples, each in a fresh order.
        batch_size: Examples in a batch.
        rng: Decides the orders.
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
def mean_loss(model: nn.Module, task: Objective, examples: Examples) -> float:
    """f_i: the mean loss over all the examples, the model in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    total = 0.0
    for start in range(0, len(examples), EVALUATION_BATCH):
        inputs = examples.inputs[start : start + EVALUATION_BATCH].to(device)
        targets = examples.targets[start : start + EVALUATION_BATCH].to(device)
        total += float(task.loss(model(inputs), targets)) * len(inputs)
    return total / len(examples)


@torch.no_grad()
def evaluate(model: nn.Module, task: Objective, examples: Examples) -> dict[str, float]:
    """The task's metrics and its mean loss over the examples, the model in evaluation mode."""
    return evaluate_classes(model, task, examples)[0]


@torch.no_grad()
def evaluate_classes(
    model: nn.Module, task: Objective, examples: Examples
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """As `evaluate`, with the accuracy of each class beside it.

    Returns:
        The metrics; and `accuracy-by-class`, NaN for a class without examples, where the task says how many labels it
        has (`num_labels`, 1000 at most) and its outputs are logits of them. Else the second is empty.
    """
    model.eval()
    device = next(model.parameters()).device
    outputs = torch.cat([model(part.to(device)).cpu() for part in examples.inputs.split(EVALUATION_BATCH)])
    metrics = {"loss": float(task.loss(outputs, examples.targets)), **task.metrics(outputs, examples.targets)}
    labels = getattr(task, "num_labels", 0)
    if not 2 <= labels <= MOST_CLASSES or outputs.shape != (len(examples), labels) or "accuracy" not in metrics:
        return metrics, {}
    return metrics, {BY_CLASS: accuracy_by_class(outputs, examples.targets, labels)}


def local_round(model: nn.Module, task: Objective, job: Job) -> Trained:
    """One exchange on a silo: trains the received model in place; f_i is taken where the job's `loss_at` says.

    Where only the loss is wanted and it is taken at the received model, nothing is trained. What a net draws on the CPU
    from torch's generator (dropout) is the job's own stream, and the process's is left as it was.

    Args:
        model: The net with the received model in it.
        task: The task whose loss is taken.
        job: What is asked of the silo.

    Raises:
        ValueError: For an unknown loss_at.
    """
    if job.loss_at not in LOSS_AT:
        raise InputError(f"loss-at={job.loss_at!r}: allowed are {', '.join(LOSS_AT)}")
    received = mean_loss(model, task, job.loss_examples) if job.loss_at == "received" else None
    reviewed = review_of(model, task, job) if job.wants_review else None
    if job.wants_update or received is None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(job.torch_seed())
            train(model, task, job.examples, lr=job.lr, epochs=job.epochs, batch_size=job.batch_size, rng=job.rng())
    loss = mean_loss(model, task, job.loss_examples) if received is None else received
    return Trained(loss, model.state_dict() if job.wants_update else None, reviewed)


def review_of(model: nn.Module, task: Objective, job: Job) -> Review:
    """The silo's review of the model it received, on what it trains on; the model is left as it is.

    Args:
        model: The net with the received model in it.
        task: The task whose loss is taken.
        job: What is asked of the silo; its `review_by` says whether classes are balanced. The loss is taken on what the
            job's loss is taken on.
    """
    examples = job.examples
    one_class = None if job.review_by == "balanced-gradient" else torch.zeros(len(examples), dtype=torch.long)
    found = review(model, task.loss, examples.inputs, examples.targets, one_class)
    if job.measured is None:
        return found
    return replace(found, loss=review(model, task.loss, job.measured.inputs, job.measured.targets, one_class).loss)
