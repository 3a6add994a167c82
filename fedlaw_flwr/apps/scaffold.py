"""A new Flower app that uses FedLAW: a ClientApp, a ServerApp and embedded data, from templates/."""

from pathlib import Path

from fedlaw_flwr.core.flower import REQUIREMENT
from fedlaw_flwr.core.project import filled, write_project

_TEMPLATES = {
    "README.md": "README.md.template",
    "pyproject.toml": "pyproject.toml.template",
    "{package}/client_app.py": "client_app.py.template",
    "{package}/server_app.py": "server_app.py.template",
    "{package}/task.py": "task.py.template",
}


def scaffold(package: str, folder: Path) -> list[Path]:
    """Writes the project `folder/package`; nothing is overwritten.

    Args:
        package: A Python module's name, lower case. With hyphens, it becomes the app's name, 32 characters at most.
        folder: Where the project's folder is made.

    Returns:
        The project's files, in order.

    Raises:
        ValueError: For any other name, or one that hides an installed module.
        FileExistsError: Where there is already something.
    """
    # Flower takes letters, digits and hyphens, 32 at most, in the name of an app.
    names = {"package": package, "app": package.replace("_", "-")[:32].rstrip("-"), "flower": REQUIREMENT}
    texts = {
        f"{package}/__init__.py": f'"""The Flower app {names["app"]}."""\n',
        **filled("fedlaw_flwr.apps", _TEMPLATES, names),
    }
    return write_project("app", package, folder, texts)
