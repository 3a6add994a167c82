"""The Flower app that a federation's runs ship: a fixed dispatcher for silos, a fixed hand-over for the server."""

import json
from pathlib import Path

from fedlaw_flwr.deploy import served
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import write_rendered
from fedlaw_flwr.silo import dispatch

_MODULE = "fedlaw_deployed"
_PYPROJECT = """\
# The Flower app of the federation {name}, made by `fedlaw deploy render`: edit federation.yaml instead.
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "fedlaw-deployed"
version = "1.0.0"
description = "FedLAW over real silos: {name}"
license = "Apache-2.0"
dependencies = ["flwr>=1.41.0,<1.42"]

[tool.flwr.app]
publisher = "fedlaw"
fab-include = ["{module}/*.py"]

[tool.flwr.app.components]
serverapp = "{module}.server:app"
clientapp = "{module}.client:app"

[tool.flwr.app.config]
"""


def render_package(federation: Federation, folder: Path) -> list[Path]:
    """Writes the app into `folder`, its configuration the federation's run settings; returns what changed.

    Both of its modules are copies of files of this package, byte for byte: the same for every run, so that a silo can
    know the package it allows by its hash.
    """
    config = "".join(f"{key} = {json.dumps(value)}\n" for key, value in federation.settings().as_config().items())
    files = {
        folder / "pyproject.toml": _PYPROJECT.format(name=federation.name, module=_MODULE) + config,
        folder / _MODULE / "__init__.py": f'"""The fixed app of the federation {federation.name}."""\n',
        folder / _MODULE / "client.py": dispatch.SOURCE.read_text(encoding="utf-8"),
        folder / _MODULE / "server.py": served.SOURCE.read_text(encoding="utf-8"),
    }
    return [path for path, content in files.items() if write_rendered(path, content)]
