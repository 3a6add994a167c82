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
    """One line of the registry.

    Attributes:
        summary: What the task is, in one line.
        num_labels: How many labels it has.
        where: The function that makes it, as "module:function" in this package.
        is_image: Whether its inputs are images. Default: True.
        is_cnn: Whether its net is the CNN, not a perceptron. Default: False.
    """

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
        """Refuses widths that its net cannot have.

        Raises:
            ValueError: For the CNN, unless there are three widths, each a multiple of 8.
        """
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
    """The task of this name over these silos. The tensors it hands out must not be changed.

    Cached: it is a pure function of its arguments, so a process that serves many silos loads and deals the examples
    once. Files are read when examples are first asked for.

    Args:
        name: A key of TASKS.
        partition: How examples are dealt to the silos.
        seed: Decides the split of the examples.
        choice: What else a researcher chose. Default: nothing.

    Raises:
        ValueError: For an unknown name or for widths its net cannot have.
        FileNotFoundError: Later, when examples are first asked for, if files are missing; the message names `data-dir`.
    """
    if name not in TASKS:
        raise InputError(f"task={name!r}: allowed are {', '.join(TASKS)}")
    TASKS[name].check_widths(choice.widths)
    module, _, function = TASKS[name].where.partition(":")
    with naming_the_extra():
        make = getattr(import_module(f"fedlaw_flwr.tasks.{module}"), function)
    task: Task = make(partition, seed, choice)
    return task
