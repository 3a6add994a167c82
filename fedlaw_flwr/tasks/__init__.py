"""What is learned: each task a model, its examples and its loss. Adding one is a file here and a line in TASKS.

Importing this package imports neither torch nor a data library: a task's file is imported when it is loaded.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.extras import naming_the_extra
from fedlaw_flwr.tasks.choice import AS_IT_COMES, Choice

if TYPE_CHECKING:
    from fedlaw_flwr.core.partition import Partition
    from fedlaw_flwr.tasks.base import Task


@dataclass(frozen=True)
class TaskEntry:
    """One line of the registry: what it is, its labels, the function that makes it, whether inputs are images, and
    whether its net is the CNN or a perceptron."""

    summary: str
    num_labels: int
    where: str
    is_image: bool = True
    is_cnn: bool = False

    @property
    def needs_files(self) -> bool:
        """Whether its examples lie in files that `data-dir` must name."""
        return self.where.startswith("vision:")

    def check_widths(self, widths: tuple[int, ...]) -> None:
        """Raises ValueError for widths its net cannot have."""
        if self.is_cnn and widths and (len(widths) != 3 or any(width % 8 for width in widths)):
            raise InputError(
                f"widths={','.join(map(str, widths))!r}: the CNN has three convolutions, each a multiple of the 8 "
                "groups of its group norm wide: 32,64,64"
            )


OWN = "own"
"""What `task` says where examples are the silos' own alone, and models begin from the file in `initial-model`."""

TASKS = {
    "digits": TaskEntry("8x8 handwritten digits, embedded in scikit-learn", 10, "embedded:digits"),
    "breast_cancer": TaskEntry(
        "Wisconsin breast cancer records, embedded in scikit-learn", 2, "embedded:breast_cancer", False
    ),
    "mnist": TaskEntry("28x28 handwritten digits, torchvision, needs data-dir", 10, "vision:mnist"),
    "fashion_mnist": TaskEntry("28x28 clothes, torchvision, needs data-dir", 10, "vision:fashion_mnist"),
    "cifar10": TaskEntry(
        "32x32 colour images of 10 kinds, torchvision, needs data-dir", 10, "vision:cifar10", is_cnn=True
    ),
    "cifar100": TaskEntry(
        "32x32 colour images of 100 kinds, torchvision, needs data-dir", 100, "vision:cifar100", is_cnn=True
    ),
}


# Two: a run and the one beside it. CIFAR's examples take 740 MB, MNIST's 220.
@lru_cache(maxsize=2)
def load_task(name: str, partition: "Partition", seed: int, choice: Choice = AS_IT_COMES) -> "Task":
    """The task of this name over these silos. Cached: it is a pure function of its arguments, so a process that
    serves many silos loads and deals the examples once. The tensors it hands out must not be changed.

    Raises ValueError for an unknown name or for widths its net cannot have. Files are read when examples are first
    asked for, and raise then FileNotFoundError, naming `data-dir`, if they are missing.
    """
    if name not in TASKS:
        raise InputError(f"task={name!r}: allowed are {', '.join(TASKS)}")
    TASKS[name].check_widths(choice.widths)
    module, _, function = TASKS[name].where.partition(":")
    with naming_the_extra():
        make = getattr(import_module(f"fedlaw_flwr.tasks.{module}"), function)
    task: Task = make(partition, seed, choice)
    return task
