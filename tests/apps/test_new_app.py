"""`fedlaw new app`: Flower takes the app that it makes, and the app holds against hostile clients as it is."""

import importlib
import sys
import tomllib

import pytest
from flwr.app import ArrayRecord, Context, RecordDict
from flwr.clientapp import ClientApp
from typer.testing import CliRunner

from fedlaw_flwr.apps.scaffold import scaffold
from fedlaw_flwr.cli.new import new
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.events.record import Run

# No other test may import this name: a module stays imported for as long as the process lives.
NAME = "scaffolded_flower_app"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("new")
    scaffold(NAME, folder)
    return folder / NAME


def module_of(project, name, monkeypatch):
    monkeypatch.syspath_prepend(project)
    return importlib.import_module(f"{NAME}.{name}")


def opposite(message, context, call_next):
    reply = call_next(message, context)
    if "arrays" in reply.content:
        received = message.content["arrays"].to_torch_state_dict()
        trained = reply.content["arrays"].to_torch_state_dict()
        reply.content["arrays"] = ArrayRecord({key: 2 * received[key] - trained[key] for key in trained})
    return reply


def test_flower_itself_takes_the_app(project):
    from flwr.cli.config_utils import load_and_validate

    config, warnings = load_and_validate(project / "pyproject.toml", check_module=False)
    assert config["project"]["name"] == "scaffolded-flower-app" and not warnings


def test_its_clients_train_with_momentum_and_the_hostile_ones_end_without_weight(
    project, monkeypatch, tmp_path, capsys
):
    client, server = (module_of(project, name, monkeypatch) for name in ("client_app", "server_app"))
    monkeypatch.chdir(tmp_path)
    config = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    config |= {"run-dir": str(tmp_path / "run")}
    hostile = ClientApp(mods=[opposite])
    hostile.train()(client.train)
    hostile.evaluate()(client.evaluate)
    grid = InProcessGrid(lambda partition: hostile if partition in (2, 6) else client.app, 10, config)
    server.app(grid, Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config))
    run = Run.read(tmp_path / "run")
    assert run.excluded == {"node 4", "node 8"}  # partitions 2 and 6: an app of one's own does not say which it is
    assert run.last_metrics["eval_acc"] > 0.85
    assert "no weight" in capsys.readouterr().out and (tmp_path / "final_model.pt").exists()


def test_the_command_says_what_it_made_and_overwrites_nothing(tmp_path):
    made = CliRunner().invoke(new, ["app", "another_flower_app", "--folder", str(tmp_path)])
    assert made.exit_code == 0 and "server_app.py" in made.stdout
    again = CliRunner().invoke(new, ["app", "another_flower_app", "--folder", str(tmp_path)])
    assert isinstance(again.exception, FileExistsError)
    assert NAME not in sys.modules or sys.modules[NAME].__file__


@pytest.mark.parametrize("name", ["My-App", "json", "torch", "class"])
def test_a_name_that_is_none_or_taken_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=f"app '{name}'"):
        scaffold(name, tmp_path)
    assert not list(tmp_path.iterdir())
