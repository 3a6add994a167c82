"""The protocols of what is learned: an objective, a simulation's task, a real silo's task; and their examples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Examples:
    """Inputs (m, ...) and targets (m,). Shared between callers: never changed in place."""

    inputs: "Tensor"
    targets: "Tensor"

    def __len__(self) -> int:
        return len(self.targets)


class Objective(Protocol):
    """A model, its loss and what is measured: all that training and evaluation need to know of a task."""

    name: str

    def build_model(self, seed: int) -> "nn.Module":
        """A freshly initialised model, a pure function of seed; the process's random state is left as it was."""
        ...

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """The mean loss of outputs (m, ...) against targets (m,), a scalar."""
        ...

    def metrics(self, outputs: "Tensor", targets: "Tensor") -> dict[str, float]:
        """What is reported of outputs against targets; has `accuracy` where there are labels."""
        ...


class Task(Objective, Protocol):
    """What a simulated federation learns: every silo's examples are dealt from one pool."""

    num_labels: int
    input_shape: tuple[int, ...]
    is_image: bool

    def load_train(self, silo: int) -> Examples:
        """The training examples of one silo, at least one."""
        ...

    def load_validation(self) -> Examples:
        """Examples on which choices are made."""
        ...

    def load_test(self) -> Examples:
        """Examples on which results are reported, and nothing is chosen."""
        ...


class SiloTask(Objective, Protocol):
    """What a real silo learns, from data that only its own process can read."""

    def load_train(self) -> Examples:
        """The silo's own training examples, at least one."""
        ...

    def load_test(self) -> Examples:
        """Examples the silo holds back: a received model is measured on them, here, and only the figures leave."""
        ...

    def description(self) -> dict[str, str]:
        """What must be the same at every silo, by name ("column age": "numeric, ..."); nothing of the silo's data.

        Compared name by name with what the federation agreed on before anything is trained.
        """
        ...


SiloTaskFactory = Callable[[str, Mapping[str, str | int | float | bool]], SiloTask]
"""What `task = "package.module:name"` in silo.yaml refers to: from data-path and options to the silo's task.

Raises ValueError, one sentence, for data that is not as the options say.
"""
