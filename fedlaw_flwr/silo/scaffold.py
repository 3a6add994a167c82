"""A new silo's package: a task that trains, a client, a test, silo.yaml and a synthetic CSV, from templates/."""

from pathlib import Path

import numpy as np

from fedlaw_flwr.core.project import filled, write_project

_TEMPLATES = {
    "README.md": "README.md.template",
    "pyproject.toml": "pyproject.toml.template",
    "silo.yaml": "silo.yaml.template",
    "{package}/task.py": "task.py.template",
    "{package}/client.py": "client.py.template",
    "tests/test_task.py": "test_task.py.template",
}
_RECORDS, _SEED = 300, 20260101


def scaffold(package: str, folder: Path) -> list[Path]:
    """Writes the project `folder/package`; nothing is overwritten.

    Args:
        package: A Python module's name, lower case. With hyphens, it becomes the silo's name.
        folder: Where the project's folder is made.

    Returns:
        The project's files, in order.

    Raises:
        ValueError: For any other name, or one that hides an installed module.
        FileExistsError: Where there is already something.
    """
    names = {"package": package, "silo": package.replace("_", "-").rstrip("-")}
    texts = {
        f"{package}/__init__.py": f'"""What {names["silo"]} learns, from data that stays with it."""\n',
        "data/synthetic.csv": synthetic_records(),
        **filled("fedlaw_flwr.silo", _TEMPLATES, names),
    }
    return write_project("silo", package, folder, texts)


def synthetic_records() -> str:
    """A CSV of 300 made-up records, the same every time: four measurements, and an outcome that depends on three.

    log odds of outcome = 0.8 z_age + 0.6 z_pressure + 1.2 z_glucose - 0.3, each z standardised.
    """
    rng = np.random.default_rng(_SEED)
    z = rng.normal(size=(_RECORDS, 4))
    odds = np.exp(z @ [0.8, 0.6, 0.0, 1.2] - 0.3)
    outcome = rng.random(_RECORDS) < odds / (1 + odds)
    raw = z * [15, 20, 12, 1.5] + [60, 130, 75, 6]
    lines = [
        f"{age:.0f},{pressure:.0f},{rate:.0f},{glucose:.1f},{ill:d}"
        for (age, pressure, rate, glucose), ill in zip(raw, outcome, strict=True)
    ]
    return "\n".join(["age,systolic_pressure,heart_rate,glucose,outcome", *lines]) + "\n"
