"""The ServerApp that `fedlaw deploy render` packs: it hands the grid to the fedlaw installed on the server.

This file is copied into the package as it is, so that what runs is the server image's code and not the package's.
"""

import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

RUNS = "FEDLAW_RUNS"
"""The environment variable that says where run folders go; without it, `runs` in the working directory."""

SOURCE = Path(__file__)
"""This file, for whoever packs it."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One run, in the run folder `run-<Flower's run id>`."""
    from server_app.app import main as run

    context.run_config["run-dir"] = str(Path(os.environ.get(RUNS, "runs")) / f"run-{context.run_id}")
    run(grid, context)
