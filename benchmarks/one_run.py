"""One run for a study, in this process, without a trace but its events."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial, partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from fedlaw_flwr.settings import Settings
    from fedlaw_flwr.tasks.base import Task

ENGINES = ("in-process", "batched")


def events_of(values: Mapping[str, Any], engine: str = "batched") -> list[dict[str, Any]]:
    """The events of a run with these settings; of one that never moved the model too, as that is its result.

    Only the last model is measured: on all of MNIST's test and validation images that costs what a round does.
    One thread: nets this small gain nothing from more, and sums depend on how many there are.
    """
    import torch

    from client_app.batched import SimulatedSilos
    from client_app.simulated import app
    from fedlaw_flwr.runs.folder import RunFailed, read_events
    from fedlaw_flwr.runs.in_process import run_batched, run_in_process
    from fedlaw_flwr.settings import Settings

    torch.set_num_threads(1)
    runs = {"in-process": partial(run_in_process, app), "batched": partial(run_batched, SimulatedSilos)}
    with tempfile.TemporaryDirectory() as folder, _at_once(), _measured_at_the_end():
        path = Path(folder) / "run"
        with suppress(RunFailed):
            runs[engine](Settings.read(values), path)
        return list(read_events(path))


@contextmanager
def _measured_at_the_end() -> Iterator[None]:
    """Metrics of the model after the last round alone."""
    from fedlaw_flwr.runs import experiment

    whole = experiment.central_evaluation

    def last_alone(settings: "Settings", task: "Task") -> Callable[[int, Any], Any]:
        measure = whole(settings, task)
        return lambda number, arrays: measure(number, arrays) if number == settings.num_rounds else None

    with patch.object(experiment, "central_evaluation", last_alone):
        yield


@contextmanager
def _at_once() -> Iterator[None]:
    """Silos in this process neither come nor go, so nobody needs to wait until they have settled."""
    from fedlaw_flwr.roster import Roster

    with patch.object(Roster, "wait", partialmethod(Roster.wait, settle=0.0)):
        yield
