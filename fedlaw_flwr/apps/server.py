"""The ServerApp of `flwr run`: checks the settings, opens a run folder, and lets the experiment run over the grid."""

import os
import time

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.superlink.grid import InMemoryGrid

from fedlaw_flwr.apps.experiment import opened, run_experiment
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.events.types import Warned
from fedlaw_flwr.protocol.roster import Roster

app = ServerApp()
_POLL, _SETTLE, _LEAST = 0.1, 2.0, 30.0


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One run. What it does, and why it failed if it did, is in the run folder's events."""
    settings = Settings.read(context.run_config)
    run = opened(settings)
    with run.folder as folder:
        if isinstance(grid, InMemoryGrid):  # Flower's own in a simulation, and nowhere else
            if (cluster := os.environ.get("RAY_ADDRESS", "local")) not in ("", "local"):
                reason = (
                    f"RAY_ADDRESS={cluster}: Flower simulates on that cluster, and for ever waits for one that is gone"
                )
                folder.write(Warned(reason=f"{reason}; unset it to simulate on this machine"))
            check_simulation(grid, settings)
        run_experiment(grid, settings, run)


def check_simulation(grid: Grid, settings: Settings) -> None:
    """Waits until Flower has made the nodes of a simulation, and compares how many there are with num-silos.

    The examples are dealt to num-silos silos: with another number of nodes some have none, or nobody has some. The grid
    is marked as one whose silos neither come nor go.

    Raises:
        InputError: If the numbers differ, with both and where each is set.
    """
    began = changed = time.monotonic()
    roster, count = Roster(), 0
    patience = max(settings.startup_timeout, _LEAST)  # Flower is making these silos only now
    while time.monotonic() - began < patience and (not count or time.monotonic() - changed < _SETTLE):
        if (now := len(roster.refresh(grid))) != count:
            count, changed = now, time.monotonic()
        time.sleep(_POLL)
    if count != settings.num_silos:
        raise InputError(
            f"num-supernodes={count} silos are simulated and num-silos={settings.num_silos}: both must be the same "
            f"number; flwr run takes --federation-config 'num-supernodes={settings.num_silos}' and "
            f"--run-config 'num-silos={count}'"
        )
    vars(grid)["all_present"] = True
