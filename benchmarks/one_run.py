"""One run for a study, in this process, without a trace but its events."""

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedlaw_flwr.events.record import Run

ENGINES = ("in-process", "batched")


def run_of(values: Mapping[str, Any], engine: str = "batched", evaluate_every: int = 0) -> "Run":
    """A run with these settings; of one that never moved the model too, as that is its result.

    Only the last model is measured, unless another is asked for every so many rounds: on all of MNIST's test and
    validation images that costs what a round does.
    One thread: nets this small gain nothing from more, and sums depend on how many there are.
    """
    import torch

    from fedlaw_flwr.apps.byzantine.batched import SimulatedSilos
    from fedlaw_flwr.apps.byzantine.simulated import app
    from fedlaw_flwr.config.settings import Settings
    from fedlaw_flwr.events.folder import RunFailed
    from fedlaw_flwr.events.record import Run
    from fedlaw_flwr.simulation.in_process import run_batched, run_in_process

    torch.set_num_threads(1)
    runs = {"in-process": partial(run_in_process, app), "batched": partial(run_batched, SimulatedSilos)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        with suppress(RunFailed):
            runs[engine](Settings.read({**values, "evaluate-every": evaluate_every}), path)
        return Run.read(path)
