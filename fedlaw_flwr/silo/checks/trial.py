"""What a check is handed, one task on trial, and what it hands back: findings."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from fedlaw_flwr.records.task import Option
from fedlaw_flwr.tasks.base import Examples, SiloTask
from fedlaw_flwr.training.local import EVALUATION_BATCH, Job, Trained, local_round

SOME = 64
"""On how many examples outputs, loss and gradient are looked at."""


@dataclass(frozen=True)
class Source:
    """Where the task comes from, as silo.yaml says it."""

    reference: str
    data_path: str
    options: Mapping[str, Option]


@dataclass(frozen=True, eq=False)
class Trial:
    """A task and how the federation would train it. What is costly, and the same for all checks, is done once.

    Attributes:
        task: The task.
        source: Where the task is loaded from.
        lr: The step of local training.
        batch_size: The examples in a batch.
        epochs: The epochs of local training in an exchange.
        seed: The seed.
    """

    task: SiloTask
    source: Source
    lr: float
    batch_size: int
    epochs: int
    seed: int

    @cached_property
    def train(self) -> Examples:
        """The silo's training examples."""
        return self.task.load_train()

    @cached_property
    def test(self) -> Examples:
        """The examples the silo holds back; may be none."""
        return self.task.load_test()

    @cached_property
    def measured(self) -> Examples:
        """What a received model is measured on: the examples held back, or where there are none those trained on."""
        return self.test if len(self.test) else self.train

    @cached_property
    def some(self) -> Examples:
        """Up to SOME training examples, spread evenly: files are often sorted by class."""
        where = torch.linspace(0, len(self.train) - 1, min(SOME, len(self.train))).round().long()
        return Examples(self.train.inputs[where], self.train.targets[where])

    def model(self) -> nn.Module:
        """The model every silo starts from."""
        return self.task.build_model(self.seed)

    def disturbed(self) -> nn.Module:
        """That model with normal noise of deviation 0.1 on every parameter: nothing is zero or equal by its making."""
        model = self.model()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
        return model

    def job(self, examples: Examples) -> Job:
        """What the server asks in the first exchange of the first round."""
        return Job(
            silo=0,
            examples=examples,
            poison="",
            seed=self.seed,
            server_round=1,
            exchange=1,
            lr=self.lr,
            epochs=self.epochs,
            batch_size=self.batch_size,
            loss_at="received",
            wants_update=True,
        )

    @cached_property
    def exchange(self) -> tuple[Trained, float]:
        """One exchange as the server would ask for it, and its seconds."""
        model = self.model()
        started = time.monotonic()
        return local_round(model, self.task, self.job(self.train)), time.monotonic() - started

    @cached_property
    def figures(self) -> dict[str, float]:
        """What the task measures of the untrained model."""
        model = self.model().eval()
        with torch.no_grad():
            outputs = torch.cat([model(part.clone()) for part in self.measured.inputs.split(EVALUATION_BATCH)])
        return self.task.metrics(outputs, self.measured.targets)

    @property
    def reply(self) -> Mapping[str, Tensor]:
        """The state dict that exchange would send."""
        state = self.exchange[0].state
        assert state is not None
        return state


def same_bytes(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape, dtype and bytes; NaN is NaN, and 0 is not -0."""
    if one.shape != other.shape or one.dtype != other.dtype or one.layout != other.layout:
        return False
    if one.layout != torch.strided:
        one, other = one.to_dense(), other.to_dense()
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def random_states() -> tuple[object, ...]:
    """The state of every generator a process shares: torch's, NumPy's, Python's; comparable by ==."""
    _, keys, *rest = np.random.get_state(legacy=True)
    return torch.get_rng_state().numpy().tobytes(), (np.asarray(keys).tobytes(), *rest), random.getstate()


def kind_of(tensor: Tensor) -> str:
    """Shape and dtype for people: "(64, 4) float32"."""
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def size_of(count: float) -> str:
    """A number of bytes for people: "1.5 kB"."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
