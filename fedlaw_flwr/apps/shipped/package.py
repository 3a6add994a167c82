"""The files of the Flower app that a federation's runs ship, the same for every federation and every run."""

import json

from fedlaw_flwr.apps.shipped import client, server
from fedlaw_flwr.core.flower import REQUIREMENT

_MODULE = "fedlaw_deployed"
_PYPROJECT = """\
# The Flower app of every federation of this fedlaw, made by `fedlaw deploy render`. What a federation's own runs change
# is told to Flower when a run is submitted: the app stays the same, so that silos know it by its digest.
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "fedlaw-deployed"
version = "1.0.0"
description = "FedLAW over real silos"
license = "Apache-2.0"
dependencies = ["{flower}"]

[tool.flwr.app]
publisher = "fedlaw"
fab-include = ["{module}/*.py"]

[tool.flwr.app.components]
serverapp = "{module}.server:app"
clientapp = "{module}.client:app"

[tool.flwr.app.config]
"""


def package_files() -> dict[str, bytes]:
    """The app, path to content: the same for every federation and every run of one fedlaw.

    Both of its modules are copies of files of this package, byte for byte, and its configuration is the default of
    every setting: a silo knows the package it allows by its digest (`fedlaw_flwr.silo.packages`).
    """
    from fedlaw_flwr.config.settings import Settings

    config = "".join(f"{key} = {json.dumps(value)}\n" for key, value in Settings().as_config().items())
    return {
        "pyproject.toml": (_PYPROJECT.format(module=_MODULE, flower=REQUIREMENT) + config).encode(),
        f"{_MODULE}/__init__.py": b'"""The fixed app of a federation of real silos."""\n',
        f"{_MODULE}/client.py": client.SOURCE.read_bytes(),
        f"{_MODULE}/server.py": server.SOURCE.read_bytes(),
    }
