"""A silo's own task for tests: two numbers and a label a line of a CSV, a linear model."""

import numpy as np
import torch

from fedlaw_flwr.tasks.base import Examples
from fedlaw_flwr.tasks.models import mlp, seeded


class Points:
    """Every fifth line is held back."""

    name = "points"
    num_labels = 2

    def __init__(self, data_path, options):
        rows = np.loadtxt(data_path, delimiter=",", dtype=np.float32, ndmin=2)
        self._unit = str(options.get("unit", "metres"))
        self.alarms = tuple(filter(None, [options.get("alarm")]))
        self._inputs = torch.from_numpy(rows[:, :-1])
        self._targets = torch.from_numpy(rows[:, -1].astype(np.int64))
        self._held_back = torch.arange(len(rows)) % 5 == 4

    def build_model(self, seed):
        return seeded(lambda: mlp(2, 2), seed)

    def load_train(self):
        return Examples(self._inputs[~self._held_back], self._targets[~self._held_back])

    def load_test(self):
        return Examples(self._inputs[self._held_back], self._targets[self._held_back])

    def loss(self, outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets)

    def metrics(self, outputs, targets):
        return {"accuracy": float((outputs.argmax(1) == targets).double().mean())}

    def description(self):
        return {"columns": f"x, y in {self._unit}; label"}


def task(data_path, options):
    return Points(data_path, options)
