"""The Flower app of a simulated run, written into a folder for `flwr run`: two thin modules and the run's settings.

Flower runs an app from a folder. This one holds no code of its own: both modules take their app from the installed
package, so that a run needs no checkout.
"""

import json
from pathlib import Path

from fedlaw_flwr.config.settings import Settings

_MODULE = "fedlaw_simulation"
_PYPROJECT = f"""\
# The Flower app of one simulated run, made by `fedlaw run`. The code is that of the installed fedlaw-flwr.
[project]
name = "fedlaw-simulation"
version = "1.0.0"
description = "FedLAW over simulated silos"
license = "Apache-2.0"
dependencies = ["fedlaw-flwr"]

[tool.flwr.app]
publisher = "fedlaw"
fab-include = ["{_MODULE}/*.py"]

[tool.flwr.app.components]
serverapp = "{_MODULE}.server:app"
clientapp = "{_MODULE}.client:app"

[tool.flwr.app.config]
"""
# Flower finds an app by reading `app = ...` in the module: an import alone is not seen.
_FILES = {
    f"{_MODULE}/__init__.py": '"""The Flower app of one simulated run."""\n',
    f"{_MODULE}/client.py": "from fedlaw_flwr.apps.byzantine import simulated\n\napp = simulated.app\n",
    f"{_MODULE}/server.py": "from fedlaw_flwr.apps import server\n\napp = server.app\n",
}


def write_app(folder: Path, settings: Settings) -> Path:
    """Writes the app of a run with these settings into `folder`, which is made if it is not there.

    Args:
        folder: Where the app goes; `flwr run FOLDER` runs it.
        settings: They become the defaults of the app's run configuration, so `--run-config` may name each of them.

    Returns:
        The folder.
    """
    config = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.as_config().items())
    for name, text in {"pyproject.toml": _PYPROJECT + config, **_FILES}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder
