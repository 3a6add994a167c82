"""The Flower app of a federation's runs: written into its folder, and the configuration a run is submitted with."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedlaw_flwr.apps.shipped.package import package_files
from fedlaw_flwr.deploy.folder import write_rendered

if TYPE_CHECKING:
    from fedlaw_flwr.deploy.federation import Federation


def render_package(folder: Path) -> list[Path]:
    """Writes the app into `folder`.

    Returns:
        The files that changed.
    """
    files = {folder / name: content.decode() for name, content in package_files().items()}
    return [path for path, content in files.items() if write_rendered(path, content)]


def run_config(federation: "Federation", changed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The configuration that a run of this federation is submitted with.

    Args:
        federation: The federation.
        changed: Settings by name that differ from the federation's, for this run.

    Returns:
        The run's settings by name that are not the app's defaults.

    Raises:
        SettingsError: For settings that do not hold together.
    """
    from fedlaw_flwr.config.settings import Settings

    defaults = Settings().as_config()
    settings = federation.settings(changed).as_config()
    return {key: value for key, value in settings.items() if value != defaults[key]}
