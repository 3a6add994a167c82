"""Libraries and extras: each import is declared, and one that is missing is told with the extra that brings it."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fedlaw_flwr.core.extras import EXTRAS, naming_the_extra, what_to_install

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Where a distribution is not named as its module is.
DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "prometheus_client": "prometheus-client",
    "google": "protobuf",
    "mlflow": "mlflow-skinny",
}


def names(requirements: list[str]) -> set[str]:
    """Distributions, or `flwr[simulation]` where an extra is asked for."""
    return {requirement.split(">")[0].split("<")[0].strip() for requirement in requirements}


def imported() -> set[str]:
    """The modules from elsewhere that the package imports, at the top of a file or within a function."""
    found: set[str] = set()
    for file in (ROOT / "fedlaw_flwr").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
    return found - set(sys.stdlib_module_names) - {"fedlaw_flwr"}


def test_every_library_that_is_imported_is_a_dependency_or_has_an_extra():
    core = names(PROJECT["dependencies"])
    for module in imported():
        assert DISTRIBUTIONS.get(module, module) in core or module in EXTRAS, module


def test_no_dependency_is_asked_of_everybody_that_nothing_imports():
    modules = {DISTRIBUTIONS.get(module, module) for module in imported()}
    assert names(PROJECT["dependencies"]) <= modules


@pytest.mark.parametrize("module", EXTRAS)
def test_the_extra_named_for_a_library_brings_it(module):
    brings = names(PROJECT["optional-dependencies"][EXTRAS[module]])
    assert DISTRIBUTIONS.get(module, module) in brings or (module == "ray" and "flwr[simulation]" in brings)


def test_a_missing_library_is_told_in_one_sentence_with_the_command_that_installs_it():
    error = ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
    assert what_to_install(error) == "torch is not installed: pip install 'fedlaw-flwr[training]'"


def test_what_no_extra_brings_keeps_its_own_words():
    assert what_to_install(ModuleNotFoundError("No module named 'clinic'", name="clinic")) == "No module named 'clinic'"


def test_a_library_that_is_there_and_broken_is_not_called_missing():
    broken = ImportError("libcudart.so.12: cannot open shared object file", name="torch")
    assert what_to_install(broken) == "libcudart.so.12: cannot open shared object file"


def test_around_an_import_the_sentence_takes_the_place_of_pythons():
    wanted = r"^torch is not installed: pip install 'fedlaw-flwr\[training\]'$"
    with pytest.raises(ModuleNotFoundError, match=wanted), naming_the_extra():
        raise ModuleNotFoundError("No module named 'torch'", name="torch")


def fedlaw_without(library: str, arguments: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """The `fedlaw` command in a process where this library cannot be found."""
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {library!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        f"sys.argv = ['fedlaw', *{arguments!r}]\n"
        "from fedlaw_flwr.cli.main import main\n"
        "main()\n"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("library", "extra", "arguments"),
    [
        ("torch", "training", ["run"]),
        ("psutil", "simulation", ["run"]),
        ("ray", "simulation", ["run"]),
        ("sklearn", "training", ["run", "--engine", "in-process"]),
        ("prometheus_client", "deploy", ["metrics", "."]),
        ("pandas", "tabular", ["schema", "draft", "x.csv", "--target", "y"]),
    ],
)
def test_a_command_that_lacks_a_library_says_what_to_install(library, extra, arguments, tmp_path):
    ended = fedlaw_without(library, arguments, tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(f"error: {library} is not installed")
    assert ended.stderr.endswith(f"pip install 'fedlaw-flwr[{extra}]'\n")


def test_strategies_attacks_and_tasks_are_listed_without_torch(tmp_path):
    ended = fedlaw_without("torch", ["list"], tmp_path)
    assert ended.returncode == 0 and "multi_krum" in ended.stdout and "label_flipping" in ended.stdout


def test_a_run_without_jinja_has_its_verdict_and_says_why_there_is_no_report(tmp_path):
    arguments = ["run", "--engine", "in-process", "num-rounds=1", "num-silos=4", "max-byzantine=1"]
    ended = fedlaw_without("jinja2", arguments, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "accuracy on the test set" in ended.stdout
    assert "no report: jinja2 is not installed" in ended.stdout
