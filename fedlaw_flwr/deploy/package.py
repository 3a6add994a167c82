"""The Flower app that a federation's runs ship: a fixed dispatcher for silos, a fixed hand-over for the server."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedlaw_flwr.deploy import served
from fedlaw_flwr.deploy.folder import write_rendered
from fedlaw_flwr.silo import dispatch

if TYPE_CHECKING:
    from fedlaw_flwr.deploy.federation import Federation

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
dependencies = ["flwr>=1.41.0,<1.42"]

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
    from fedlaw_flwr.settings import Settings

    config = "".join(f"{key} = {json.dumps(value)}\n" for key, value in Settings().as_config().items())
    return {
        "pyproject.toml": (_PYPROJECT.format(module=_MODULE) + config).encode(),
        f"{_MODULE}/__init__.py": b'"""The fixed app of a federation of real silos."""\n',
        f"{_MODULE}/client.py": dispatch.SOURCE.read_bytes(),
        f"{_MODULE}/server.py": served.SOURCE.read_bytes(),
    }


def render_package(folder: Path) -> list[Path]:
    """Writes the app into `folder`; returns what changed."""
    files = {folder / name: content.decode() for name, content in package_files().items()}
    return [path for path, content in files.items() if write_rendered(path, content)]


def run_config(federation: "Federation", changed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a run of this federation is submitted with: its settings, some changed, that are not the app's defaults.

    Raises SettingsError for settings that do not hold together.
    """
    from fedlaw_flwr.settings import Settings

    defaults = Settings().as_config()
    settings = federation.settings(changed).as_config()
    return {key: value for key, value in settings.items() if value != defaults[key]}
