"""The ServerApp of `flwr run`: checks the settings, opens a run folder, and lets the experiment run over the grid."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedlaw_flwr.apps.experiment import run_experiment
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.events.folder import RunFolder

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One run. What it does, and why it failed if it did, is in the run folder's events."""
    settings = Settings.read(context.run_config)
    with RunFolder.create(settings) as folder:
        run_experiment(grid, settings, folder)
