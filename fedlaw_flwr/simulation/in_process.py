"""The same apps and strategy as `flwr run` in this process, no Ray, no SuperLink: silo after silo, or as one batch."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fedlaw_flwr.apps.experiment import opened, run_experiment
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.engines.batched import BatchedGrid, Silos
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.events.types import OnEvent


def run_in_process(app: ClientApp, settings: Settings, folder: Path, on_event: OnEvent | None = None) -> None:
    """One run over silos in this process, one after another.

    Args:
        app: The ClientApp of every silo.
        settings: The run's.
        folder: The run folder.
        on_event: Is handed every event.
    """
    settings = replace(settings, run_dir=str(folder))
    _run(InProcessGrid(app, settings.num_silos, settings.as_config()), settings, on_event)


def run_batched(
    silos: Callable[[Settings], Silos],
    settings: Settings,
    folder: Path,
    on_event: OnEvent | None = None,
    silos_per_batch: int = 64,
) -> None:
    """One run over silos in this process, many of them trained together.

    Args:
        silos: Makes the silos from the settings.
        settings: The run's.
        folder: The run folder.
        on_event: Is handed every event.
        silos_per_batch: How many silos are trained together. Default: 64.
    """
    settings = replace(settings, run_dir=str(folder))
    _run(BatchedGrid(silos(settings), settings.num_silos, settings.as_config(), silos_per_batch), settings, on_event)


def _run(grid: Grid, settings: Settings, on_event: OnEvent | None) -> None:
    run = opened(settings, on_event)
    with run.folder:
        run_experiment(grid, settings, run)
