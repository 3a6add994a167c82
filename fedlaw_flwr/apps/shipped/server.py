"""The ServerApp that `fedlaw deploy render` packs: it hands the grid to the fedlaw installed on the server.

This file is copied into the package as it is, so that what runs is the server image's code and not the package's.
"""

import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

RUNS = "FEDLAW_RUNS"
"""The environment variable that says where run folders go; without it, `runs` in the working directory."""

INITIAL_MODEL = "FEDLAW_INITIAL_MODEL"
"""The environment variable that says where the file of `initial-model` lies here, if not where the operator has it."""

SOURCE = Path(__file__)
"""This file, for whoever packs it."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One run, in the run folder `run-<Flower's run id>`; with `resume`, in that of the run that it goes on with."""
    from fedlaw_flwr.apps.server import main as run
    from fedlaw_flwr.ledger.keys import SERVER_KEY

    runs = Path(os.environ.get(RUNS, "runs"))
    # A name of one of the folders there, whatever the message says: Settings takes no path.
    name = str(context.run_config.get("resume") or "") or f"run-{context.run_id}"
    context.run_config["run-dir"] = str(runs / name)
    # A key that lasts from run to run, so that silos know it again; FEDLAW_SERVER_KEY names one elsewhere.
    context.run_config["server-key"] = "" if os.environ.get(SERVER_KEY) else str(runs / "server.ed25519")
    if context.run_config.get("initial-model") and INITIAL_MODEL in os.environ:
        context.run_config["initial-model"] = os.environ[INITIAL_MODEL]
    run(grid, context)
