"""`fedlaw verdict`, `fedlaw runs` and `--json`: what a program reads is what a person sees."""

import json

import numpy as np
import pytest
from scripted import ScriptedGrid, record_of, reply, stopped_clock
from typer.testing import CliRunner

from fedlaw_flwr.cli.main import app
from fedlaw_flwr.core.findings import note, ok, wrong
from fedlaw_flwr.events.folder import RunFailed
from fedlaw_flwr.strategy import FedLAW

TARGET = np.array([1.0, -1.0, 2.0, 0.5], np.float32)


def silo(i):
    def answer(received):
        theta = received.arrays["w"]
        moved = theta - (-0.1 if i > 5 else 0.1) * (theta - TARGET)
        return reply({"w": moved}, float(np.sum((theta - TARGET) ** 2)), partition=i)

    return answer


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, scripts in (("a-good", [silo(i) for i in range(8)]), ("b-failed", [lambda received: reply()] * 8)):
        strategy = FedLAW(max_byzantine=2, lr=0.1, beta=0.1, startup_timeout=5.0, run_dir=folder / name)
        try:
            with stopped_clock():
                strategy.start(ScriptedGrid(scripts), record_of({"w": np.zeros(4, np.float32)}), 20, 30)
        except RunFailed:
            assert name == "b-failed"
    return folder


def told(*arguments):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_verdict_names_every_silo_and_what_became_of_it(runs):
    shown = told("verdict", runs / "a-good")
    assert "silo 6" in shown and "no weight since round" in shown and "weight on attackers" in shown


def test_the_verdict_as_json_has_the_figures_and_a_row_for_each_silo(runs):
    found = json.loads(told("verdict", runs / "a-good", "--json"))
    assert found["excluded"] == ["silo 6", "silo 7"] and found["status"] == "completed" and found["rounds"] == 20
    assert [row["silo"] for row in found["silos"]] == [f"silo {i}" for i in range(8)]
    assert sum(row["weight"] for row in found["silos"]) == pytest.approx(1)
    assert found["figures"]["rounds"] == 20


def test_the_runs_of_a_folder_with_how_each_ended(runs):
    shown = told("runs", runs)
    assert "a-good" in shown and "completed" in shown and "failed" in shown
    good, failed = json.loads(told("runs", runs, "--json"))
    assert (good["run"], good["excluded"]) == ("a-good", ["silo 6", "silo 7"])
    assert failed["status"] == "failed" and "ArrayRecords" in failed["reason"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    done = CliRunner().invoke(app, ["runs", str(tmp_path / "nowhere")])
    assert isinstance(done.exception, FileNotFoundError) and "nowhere" in str(done.exception)


def test_the_shell_can_be_told_to_complete_commands():
    assert "--install-completion" in told("--help")


def test_preflight_as_json_has_what_the_lines_say_and_the_same_exit_code(monkeypatch):
    monkeypatch.setattr("fedlaw_flwr.deploy.silo_preflight.is_silo_file", lambda file: True)
    for found, code in (([ok("the key"), note("no policy")], 0), ([ok("the key"), wrong("the port")], 1)):
        monkeypatch.setattr(
            "fedlaw_flwr.deploy.silo_preflight.inspect_silo", lambda *place, online, found=found: iter(found)
        )
        done = CliRunner().invoke(app, ["preflight", "silo.yaml", "--json"])
        assert json.loads(done.stdout) == [{"kind": one.kind, "what": one.what} for one in found]
        assert done.exit_code == code
        lines = CliRunner().invoke(app, ["preflight", "silo.yaml"]).stdout
        assert all(one.what in lines for one in found)
