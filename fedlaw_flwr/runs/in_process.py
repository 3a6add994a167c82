"""The same apps and strategy as `flwr run`, one silo after another in this process: no Ray, no SuperLink."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flwr.clientapp import ClientApp

from fedlaw_flwr.engine.in_process import InProcessGrid
from fedlaw_flwr.runs.experiment import run_experiment
from fedlaw_flwr.runs.folder import RunFolder
from fedlaw_flwr.settings import Settings


def run_in_process(
    app: ClientApp,
    settings: Settings,
    folder: Path,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """One run of this ClientApp in every silo, into `folder`; its events are handed to on_event as they happen."""
    settings = settings.model_copy(update={"run_dir": str(folder)})
    grid = InProcessGrid(app, settings.num_silos, settings.as_config())
    with RunFolder.create(settings, on_event) as opened:
        run_experiment(grid, settings, opened)
