"""Which extra of this package brings which library, for one sentence where a library is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

EXTRAS = {
    "torch": "training",
    "sklearn": "training",
    "ray": "simulation",
    "psutil": "simulation",
    "torchvision": "vision",
    "PIL": "vision",
    "jinja2": "report",
    "matplotlib": "report",
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "pandas": "tabular",
    "pyarrow": "tabular",
    "sqlalchemy": "sql",
    "prometheus_client": "deploy",
    "packaging": "deploy",
    "idna": "deploy",
}
"""Module to extra. A library that several extras bring has the one that most often lacks it."""


def what_to_install(error: ImportError) -> str:
    """What is missing, and the command that installs it; the error's own text for a library that no extra brings.

    Args:
        error: What importing a library raised; its `name` is that of the module.

    Returns:
        One sentence: "torch is not installed: pip install 'fedlaw-flwr[training]'".
    """
    library = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or library not in EXTRAS:
        return str(error)
    return f"{library} is not installed: pip install 'fedlaw-flwr[{EXTRAS[library]}]'"


@contextmanager
def naming_the_extra() -> Iterator[None]:
    """Around an import: a library that is missing is told as `what_to_install` tells it.

    Raises:
        ModuleNotFoundError: Where the library is not installed; its text says which extra brings it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(what_to_install(error)) from None
