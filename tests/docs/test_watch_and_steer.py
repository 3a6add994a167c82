"""The examples of docs/how-to/watch-and-steer-a-run.md run as they stand there."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from flwr.app import MetricRecord
from scripted import ScriptedGrid, record_of, reply, stopped_clock

from fedlaw_flwr import FedLAW

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "watch-and-steer-a-run.md"
TARGET = np.array([1.0, -1.0], np.float32)


def silo(i):
    def answer(received):
        theta = received.arrays["w"]
        return reply({"w": theta - 0.1 * (theta - TARGET)}, float(np.sum((theta - TARGET) ** 2)), partition=i)

    return answer


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the page's code defines after it has run, in an empty folder, with a stand-in for wandb."""
    monkeypatch.chdir(tmp_path)
    logged = []
    wandb = SimpleNamespace(log=lambda values, step: logged.append((step, values)))
    grid = ScriptedGrid([silo(i) for i in range(6)])
    found = {"FedLAW": FedLAW, "torch": torch, "wandb": wandb, "grid": grid, "logged": logged}
    found["arrays"] = record_of({"w": np.zeros(2, np.float32)})
    with stopped_clock():
        for code in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S):
            exec(code, found)
    return found


def run(names, rounds=12, accuracy=lambda server_round: 0.5, **settings):
    grid = ScriptedGrid([silo(i) for i in range(6)])
    strategy = FedLAW(max_byzantine=2, startup_timeout=5.0, **settings)
    with stopped_clock():
        result = strategy.start(
            grid, names["arrays"], rounds, 30, evaluate_fn=lambda k, arrays: MetricRecord({"accuracy": accuracy(k)})
        )
    return result, grid


def test_the_run_folder_has_a_report_and_the_verdict_prints(names, capsys):
    assert Path("runs/first/report.html").exists()
    print(names["result"].verdict)
    assert "silo 5" in capsys.readouterr().out


def test_every_fifth_round_has_a_checkpoint_and_each_is_logged_with_its_weights(names):
    run(names, on_round_end=[names["checkpoint"], names["log_to_wandb"]])
    assert sorted(path.name for path in Path().glob("model-*.pt")) == ["model-10.pt", "model-5.pt"]
    assert torch.load("model-5.pt", weights_only=True)["w"].shape == (2,)
    steps = [step for step, _ in names["logged"]]
    assert steps == list(range(1, 13)) and {"accuracy", "weight/silo 0"} <= set(names["logged"][0][1])


def test_a_run_whose_accuracy_does_not_rise_ends_three_rounds_later(names):
    result, _ = run(names, accuracy=lambda k: min(k, 4) / 10, on_round_end=names["Patience"]())
    assert sorted(result.train_metrics_clientapp) == list(range(1, 8))


def test_the_schedule_lowers_the_step(names):
    _, grid = run(names, rounds=2, configure=names["schedule"])
    assert {(r.round, r.config["lr"]) for r in grid.received} == {(1, 0.1 * 0.95), (2, 0.1 * 0.95**2)}
