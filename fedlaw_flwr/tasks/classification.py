"""Classes to be told apart: loss and metrics of every such task, and a real silo's task over examples in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, bincount, nn

from fedlaw_flwr.core import seeding
from fedlaw_flwr.core.extras import naming_the_extra
from fedlaw_flwr.tasks.base import Examples
from fedlaw_flwr.tasks.models import seeded


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the logits (m, labels) against targets (m,), a scalar."""
    return nn.functional.cross_entropy(outputs, targets)


def label_metrics(outputs: Tensor, targets: Tensor, num_labels: int) -> dict[str, float]:
    """What is reported of the logits against the targets.

    Args:
        outputs: The logits, (m, labels).
        targets: The labels, (m,).
        num_labels: How many labels the task has.

    Returns:
        `accuracy`; with two labels also `auc`, the area under the ROC curve of the second, where both occur and outputs
        are finite. Empty for no examples.
    """
    if len(targets) == 0:
        return {}
    found = {"accuracy": float((outputs.argmax(1) == targets).double().mean())}
    if num_labels == 2 and len(targets.unique()) == 2:
        with naming_the_extra():
            from sklearn.metrics import roc_auc_score

        score = (outputs[:, 1] - outputs[:, 0]).detach().numpy()
        if np.isfinite(score).all():  # a run that diverged goes on, and is reported
            found["auc"] = float(roc_auc_score(targets.numpy(), score))
    return found


def accuracy_by_class(outputs: Tensor, targets: Tensor, num_labels: int) -> list[float]:
    """The share of each class's examples that the logits get right.

    Args:
        outputs: The logits, (m, labels).
        targets: The labels, (m,).
        num_labels: How many labels the task has.

    Returns:
        A value for each label, NaN for one without examples.
    """
    right = (outputs.argmax(1) == targets).double()
    held = bincount(targets, minlength=num_labels)
    return (bincount(targets, weights=right, minlength=num_labels) / held).tolist()


@dataclass(frozen=True)
class ClassificationTask:
    """A `SiloTask` over examples in memory.

    Attributes:
        name: The task's name, as silos and server say it.
        num_labels: How many classes there are.
        net: Makes its model from torch's random state.
        train: The examples to train on.
        test: The examples held back.
        agreed: Its description, see `SiloTask.description`.
        noticed: What looks wrong in the data, in sentences for the silo's own people.
        alarms: The same without anything of the data but the agreed names: what the federation may be told.
    """

    name: str
    num_labels: int
    net: Callable[[], nn.Module]
    train: Examples
    test: Examples
    agreed: Mapping[str, str]
    noticed: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()

    def build_model(self, seed: int) -> nn.Module:
        """The task's net, initialised from (seed, "model")."""
        return seeded(self.net, seeding.integer(seed, "model"))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the logits."""
        return cross_entropy(outputs, targets)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Accuracy and, of two classes, AUC: see `label_metrics`."""
        return label_metrics(outputs, targets, self.num_labels)

    def load_train(self) -> Examples:
        """The silo's training examples."""
        return self.train

    def load_test(self) -> Examples:
        """The examples the silo holds back; none where its share for them is 0."""
        return self.test

    def description(self) -> dict[str, str]:
        """What must be the same at every silo."""
        return dict(self.agreed)

    def suspicions(self) -> list[str]:
        """What looks wrong in the silo's data and is no error. Quotes figures of it: for the silo's own people."""
        return list(self.noticed)
