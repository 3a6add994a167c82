"""What importing the package brings along: the strategy needs no training library, and mathematics needs no Flower."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fedlaw_flwr

HEAVY = ("torch", "sklearn", "scipy", "ray", "matplotlib", "pandas", "torchvision", "sqlalchemy", "pydantic")


def imported_by(code, names):
    """Which of these modules a fresh interpreter has loaded once it has run the code."""
    ask = f"{code}\nimport sys\nprint(*[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_strategy_is_imported_from_the_root_without_any_library_that_trains_or_draws():
    assert imported_by("from fedlaw_flwr import FedLAW", ("flwr", "numpy", *HEAVY)) == ["flwr", "numpy"]


def test_the_root_imports_nothing_until_a_name_is_used():
    assert imported_by("import fedlaw_flwr", ("flwr", "numpy", *HEAVY)) == []


@pytest.mark.parametrize("name", fedlaw_flwr.__all__)
def test_every_public_name_is_there_and_brings_no_torch(name):
    assert imported_by(f"from fedlaw_flwr import {name}", ("torch",)) == []


def test_a_name_that_is_not_public_is_refused_as_python_refuses_it():
    with pytest.raises(AttributeError, match="no attribute 'FedLaw'"):
        fedlaw_flwr.FedLaw  # noqa: B018


def test_the_names_that_dir_lists_hold_every_public_one():
    assert set(fedlaw_flwr.__all__) <= set(dir(fedlaw_flwr))


@pytest.mark.parametrize(
    "code",
    [
        "import fedlaw_flwr.core, pkgutil, importlib\n"
        "for found in pkgutil.iter_modules(fedlaw_flwr.core.__path__):\n"
        "    importlib.import_module(f'fedlaw_flwr.core.{found.name}')",
        "from fedlaw_flwr.attacks import ATTACKS, load_attack\nfor name in ATTACKS: load_attack(name)",
        "from fedlaw_flwr.learners import LEARNERS, load_learner\nfor name in LEARNERS: load_learner(name)",
        "from fedlaw_flwr.rules import RULES",
    ],
    ids=["core", "attacks", "learners", "rules"],
)
def test_mathematics_needs_neither_flower_nor_torch(code):
    assert imported_by(code, ("numpy", "flwr", *HEAVY)) == ["numpy"]


def test_settings_are_read_without_torch():
    code = "from fedlaw_flwr.config.settings import Settings\nSettings.read({'attack': 'backdoor', 'byzantine': 0.1})"
    assert imported_by(code, ("numpy", *HEAVY)) == ["numpy"]


def test_the_version_is_that_of_the_project_file():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert fedlaw_flwr.__version__ == project["version"]
