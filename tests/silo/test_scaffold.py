"""`fedlaw new silo`: the project it makes passes its own tests and `fedlaw check` as it is, and overwrites nothing."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from typer import Typer
from typer.testing import CliRunner

from fedlaw_flwr.cli.check import check
from fedlaw_flwr.cli.new import new
from fedlaw_flwr.silo.config import SiloConfig
from fedlaw_flwr.silo.scaffold import scaffold, synthetic_records

# No other test may import this name: a module stays imported for as long as the process lives.
NAME = "scaffolded_hospital"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("new")
    scaffold(NAME, folder)
    return folder / NAME


def python(*arguments, cwd):
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_its_own_tests_pass(project):
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_fedlaw_check_finds_nothing_wrong_in_it_by_its_silo_yaml(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(project)
    app = Typer()
    app.command()(check)
    done = CliRunner().invoke(app, ["--silo", "silo.yaml", "--save-model", "initial.safetensors"])
    assert done.exit_code == 0, done.stdout
    assert "WRONG" not in done.stdout
    assert "240 training examples, 60 held back" in done.stdout
    assert (project / "initial.safetensors").exists()
    (project / "initial.safetensors").unlink()


def test_its_client_keeps_the_protocol_where_the_command_is_given_and_proposes_a_model(project):
    fedlaw = Path(sys.executable).parent / "fedlaw"
    command = [fedlaw, "conformance", f"{NAME}.client:app", "--node-config", "data-path=data/synthetic.csv"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [*command, "--save-model", "zeros.safetensors"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{NAME}.client:app keeps the protocol" in done.stdout and "WRONG" not in done.stdout
    (project / "zeros.safetensors").unlink()
    assert f"fedlaw conformance {NAME}.client:app" in " ".join((project / "README.md").read_text().split())


def test_fedlaw_check_finds_its_task_in_the_folder_where_it_is_given(project):
    fedlaw = Path(sys.executable).parent / "fedlaw"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""}
    command = [fedlaw, "check", f"{NAME}.task:task", "--data-path", "no-such.csv"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "data-path='no-such.csv': there is no such file" in done.stdout


def test_its_silo_yaml_is_one_and_names_its_task(project):
    config = SiloConfig.read(project / "silo.yaml")
    assert config.name == "scaffolded-hospital"
    assert config.task == f"{NAME}.task:task"
    assert (project / config.data_path).is_file()
    assert config.options == {"hold-back-every": 5}


def test_what_it_writes_is_formatted_and_without_lint(project):
    ruff = Path(sys.executable).parent / "ruff"
    if not ruff.exists():
        pytest.skip("ruff is not installed")
    for command in (["check", "--select", "E,F,I,UP,B,SIM,RUF"], ["format", "--check"]):
        done = subprocess.run(
            [ruff, *command, "--no-cache", "."], cwd=project, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_its_data_is_the_same_every_time_and_can_be_learned(project):
    assert (project / "data" / "synthetic.csv").read_text() == synthetic_records()
    rows = list(csv.DictReader(synthetic_records().splitlines()))
    inputs = np.array([[float(row[name]) for name in row if name != "outcome"] for row in rows])
    outcome = np.array([int(row["outcome"]) for row in rows])
    z = (inputs - inputs.mean(0)) / inputs.std(0)
    found = LogisticRegression(C=1e6).fit(z, outcome)
    # What synthetic_records() says it drew, to within what 300 records tell of it.
    np.testing.assert_allclose(found.coef_[0], [0.8, 0.6, 0.0, 1.2], atol=0.4)


def test_the_command_says_each_file_it_made_and_where_to_go_on(tmp_path):
    app = Typer()
    app.add_typer(new, name="new")
    done = CliRunner().invoke(app, ["new", "silo", "another_hospital", "--folder", str(tmp_path / "deep" / "er")])
    assert done.exit_code == 0, done.output
    made = {Path(line.removeprefix("made  ")) for line in done.stdout.splitlines() if line.startswith("made  ")}
    project = tmp_path / "deep" / "er" / "another_hospital"
    assert made == {path for path in project.rglob("*") if path.is_file()}
    assert {path.relative_to(project).as_posix() for path in made} == {
        "README.md",
        "another_hospital/__init__.py",
        "another_hospital/client.py",
        "another_hospital/task.py",
        "data/synthetic.csv",
        "pyproject.toml",
        "silo.yaml",
        "tests/test_task.py",
    }


def test_nothing_is_overwritten(project):
    (project / "README.md").write_text("ours\n")
    with pytest.raises(FileExistsError, match="is there already"):
        scaffold(NAME, project.parent)
    assert (project / "README.md").read_text() == "ours\n"


@pytest.mark.parametrize("name", ["", "My_Hospital", "my-hospital", "1st", "class", "a" * 41, "../up", "höfe", "x y"])
def test_a_name_python_cannot_import_is_refused_with_what_is_allowed(name, tmp_path):
    with pytest.raises(ValueError, match="lower-case letters, digits and _"):
        scaffold(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["json", "torch", "fedlaw_flwr"])
def test_a_name_that_would_hide_an_installed_module_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="a module of this name is installed here already"):
        scaffold(name, tmp_path)
    assert list(tmp_path.iterdir()) == []
