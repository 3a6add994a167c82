"""How far a run is: the model, how many silos it began with, what was measured; what a resumed run goes on with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import MetricRecord

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.state import State
from fedlaw_flwr.protocol.layout import Model
from fedlaw_flwr.strategy.account import RunResult

_MEASURED = ("train_metrics_clientapp", "evaluate_metrics_clientapp", "evaluate_metrics_serverapp")
_KEPT = "biufc"  # NumPy's kinds of numbers, which safetensors holds; the dates and texts of a model never change


@dataclass
class Progress:
    """Where a run stands after a round.

    Attributes:
        n: How many silos there were at the start; b is of these and of those that joined.
        model: The model.
        result: Flower's result so far.
        step: alpha, the step of the silos' local training; None where it is not known.
        moved: Whether any round moved the model. Default: no.
        last: Why the last round did not. Default: "".
        stopped: Why the run ends early; None where it does not.
        loss_key: Under which name the silos report their loss, once that was found.
    """

    n: int
    model: Model
    result: RunResult
    step: float | None
    moved: bool = False
    last: str = ""
    stopped: str | None = None
    loss_key: str | None = None
    _slots: list[list[Any]] = field(init=False)

    def __post_init__(self) -> None:
        slots = self.model.layout.slots
        self._slots = [[slot.key, list(slot.shape), str(slot.dtype), slot.kind] for slot in slots]

    def state(self) -> State:
        """See `core.state`."""
        fixed = {f"fixed.{key}": value for key, value in self.model.fixed.items() if value.dtype.kind in _KEPT}
        told = {name: _listed(getattr(self.result, name)) for name in _MEASURED}
        values = {"n": self.n, "moved": self.moved, "last": self.last, "stopped": self.stopped}
        more = {"step": self.step, "loss-key": self.loss_key, "slots": self._slots, "result": told}
        arrays = {"parameters": self.model.parameters, "buffers": self.model.buffers, **fixed}
        return State({**values, **more}, arrays)

    def restore(self, state: State) -> None:
        """See `core.state`.

        Raises:
            InputError: If the checkpoint is of another model.
        """
        values = state.values
        if values["slots"] != self._slots:
            raise InputError(f"the checkpoint is of another model: {_first_difference(values['slots'], self._slots)}")
        self.n, self.moved, self.last = int(values["n"]), bool(values["moved"]), str(values["last"])
        self.stopped, self.step, self.loss_key = values["stopped"], values["step"], values["loss-key"]
        fixed = {key: state.arrays.get(f"fixed.{key}", value) for key, value in self.model.fixed.items()}
        layout = self.model.layout
        parameters, buffers = (np.array(state.arrays[name], layout.dtype) for name in ("parameters", "buffers"))
        self.model = Model(layout, parameters, buffers, fixed)
        for name in _MEASURED:
            setattr(self.result, name, {int(r): MetricRecord(metrics) for r, metrics in values["result"][name]})


def _listed(measured: Mapping[int, Mapping[str, Any]]) -> list[list[Any]]:
    return [[number, dict(metrics)] for number, metrics in measured.items()]


def _first_difference(before: list[list[Any]], now: list[list[Any]]) -> str:
    for old, new in zip(before, now, strict=False):
        if old != new:
            return (
                f"it has {old[0]!r}, {old[2]} {tuple(old[1])}, where this one has {new[0]!r}, {new[2]} {tuple(new[1])}"
            )
    return f"it has {len(before)} arrays, and this one {len(now)}"
