"""The protocol of a task, and the examples it hands out."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Examples:
    """Inputs (m, ...) and targets (m,). Shared between callers: never changed in place."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)


class Task(Protocol):
    """What a federation learns: a model, each silo's examples, the loss and what is measured."""

    name: str
    num_labels: int
    input_shape: tuple[int, ...]
    is_image: bool

    def build_model(self, seed: int) -> nn.Module:
        """A freshly initialised model, a pure function of seed; the process's random state is left as it was."""
        ...

    def load_train(self, silo: int) -> Examples:
        """The training examples of one silo, at least one."""
        ...

    def load_validation(self) -> Examples:
        """Examples on which choices are made."""
        ...

    def load_test(self) -> Examples:
        """Examples on which results are reported, and nothing is chosen."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of outputs (m, ...) against targets (m,), a scalar."""
        ...

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """What is reported of outputs against targets; has `accuracy` where there are labels."""
        ...
