"""A task whose examples lie in one pool: split 80/10/10, scaled, and dealt to silos by a Partition."""

from collections.abc import Callable
from functools import cached_property
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedlaw_flwr.core import seeding
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.partition import Partition
from fedlaw_flwr.tasks.base import Examples
from fedlaw_flwr.tasks.choice import Choice
from fedlaw_flwr.tasks.classification import cross_entropy, label_metrics
from fedlaw_flwr.tasks.models import seeded

Pool = tuple[NDArray[Any], NDArray[np.integer]]


class PooledTask:
    """A task whose examples lie in one pool, original train and test files together.

    A seeded shuffle splits the pool: a tenth (rounded down) for validation, as many for test, the rest for training
    (FedLAW, 5.1). Inputs are scaled as choice.inputs says, with constants of the training split alone. Those constants
    know every silo's examples, as a pool does and a real federation must not.

    Args:
        name: The task's name.
        partition: How the training split is dealt to the silos.
        seed: Decides the shuffle.
        choice: How inputs are scaled, and how many of the training split are dealt: the first choice.train_examples of
            its shuffle; 0 or more than there are: all.
        load: Gives the pool, inputs (m, ...) and labels (m,).
        build: Makes the net from torch's random state.
        num_labels: How many labels there are.
        input_shape: The shape of one input, without m.
        is_image: Whether inputs are images.
        per_feature: Whether each feature has its own pair of scaling constants; if not, there is one pair over all
            pixels. Default: False.

    Raises:
        ValueError: For fewer than 10 examples, when examples are first asked for.
    """

    def __init__(
        self,
        name: str,
        partition: Partition,
        seed: int,
        choice: Choice,
        *,
        load: Callable[[], Pool],
        build: Callable[[], nn.Module],
        num_labels: int,
        input_shape: tuple[int, ...],
        is_image: bool,
        per_feature: bool = False,
    ) -> None:
        self.name, self.num_labels, self.input_shape, self.is_image = name, num_labels, input_shape, is_image
        self._partition, self._seed, self._load, self._build = partition, seed, load, build
        self._per_feature, self._choice = per_feature, choice

    def build_model(self, seed: int) -> nn.Module:
        """The task's net, initialised from (seed, "model")."""
        return seeded(self._build, seeding.integer(seed, "model"))

    def load_train(self, silo: int) -> Examples:
        """This silo's part of the training split.

        Raises:
            ValueError: For a silo there is not.
        """
        if not 0 <= silo < self._partition.num_silos:
            raise InputError(f"silo {silo}: there are silos 0 to {self._partition.num_silos - 1}")
        train = self._splits[0]
        chosen = torch.from_numpy(self._dealt[silo])
        return Examples(train.inputs[chosen], train.targets[chosen])

    def load_validation(self) -> Examples:
        """The validation tenth."""
        return self._splits[1]

    def load_test(self) -> Examples:
        """The test tenth."""
        return self._splits[2]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the logits."""
        return cross_entropy(outputs, targets)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Accuracy and, of two labels, AUC: see `label_metrics`."""
        return label_metrics(outputs, targets, self.num_labels)

    @cached_property
    def _splits(self) -> tuple[Examples, Examples, Examples]:
        raw, labels = self._load()
        tenth = len(labels) // 10
        if tenth == 0:
            raise InputError(
                f"task={self.name!r}: {len(labels)} examples cannot be split 80/10/10; at least 10 are needed"
            )
        order = seeding.generator(self._seed, "split").permutation(len(labels))
        parts = np.split(order, [len(order) - 2 * tenth, len(order) - tenth])
        parts[0] = parts[0][: self._choice.train_examples or None]
        centre, spread = self._constants(raw[parts[0]])

        def scaled(part: NDArray[np.intp]) -> Examples:
            inputs = raw[part] - centre
            inputs /= spread
            return Examples(
                torch.from_numpy(inputs.astype(np.float32, copy=False).reshape(-1, *self.input_shape)),
                torch.from_numpy(labels[part].astype(np.int64)),
            )

        train, validation, test = map(scaled, parts)
        return train, validation, test

    @cached_property
    def _dealt(self) -> list[NDArray[np.intp]]:
        return self._partition.deal(self._splits[0].targets.numpy(), self.num_labels)

    def _constants(self, train: NDArray[Any]) -> tuple[Any, Any]:
        """What is subtracted and what then divides, float32, over everything or per feature; a feature that never
        varies is divided by 1."""
        axis = 0 if self._per_feature else None
        low, high = train.min(axis=axis), train.max(axis=axis)
        width = np.subtract(high, low, dtype=np.float64)
        if self._choice.inputs == "standardised":
            centre = train.mean(axis=axis, dtype=np.float64)
            # By slices: in one piece the float64 deviations of CIFAR's images would take 1.2 GB.
            slices = np.array_split(train, ceil(len(train) / 2048))
            squares = sum(np.square(part - centre).sum(axis=axis) for part in slices)
            spread = np.sqrt(squares * (np.size(centre) / train.size))
        elif self._choice.inputs == "unit":
            centre, spread = low.astype(np.float64), width
        else:
            centre, spread = low + width / 2, width / 2
        # Not spread > 0: rounding gives a constant such as 0.1 a deviation of 1e-17, to divide by.
        return np.float32(centre), np.float32(np.where(high > low, spread, 1.0))
