"""`fedlaw report` on a folder with events and nothing else, and on runs whose silos report no loss."""

import json

import numpy as np
import pytest
from flwr.app import MetricRecord
from scripted import ScriptedGrid, record_of, reply, stopped_clock

from fedlaw_flwr.events.record import Run
from fedlaw_flwr.reporting.explanations import score_of
from fedlaw_flwr.reporting.report import page_of, write_report
from fedlaw_flwr.strategy import FedLAW

TARGET = np.array([1.0, -1.0, 2.0, 0.5], np.float32)


def silo(i, loss):
    def answer(received):
        theta = received.arrays["w"]
        content = reply({"w": theta - (-0.1 if i > 5 else 0.1) * (theta - TARGET)}, None, partition=i)
        content["metrics"] = MetricRecord(
            {"loss": float(np.sum((theta - TARGET) ** 2))} if loss else {"num-examples": 3}
        )
        return content

    return answer


def run_in(folder, loss=True, **settings):
    """A run whose events somebody wrote down by a function of theirs, as the tutorial shows."""
    strategy = FedLAW(max_byzantine=2, lr=0.1, beta=0.1, startup_timeout=5.0, **settings)
    with (folder / "events.jsonl").open("w") as file, stopped_clock():
        strategy.on_event = lambda event: print(json.dumps(event.to_dict()), file=file)
        strategy.start(
            ScriptedGrid([silo(i, loss) for i in range(8)]), record_of({"w": np.zeros(4, np.float32)}), 20, 30
        )
    return folder


def test_the_report_of_events_alone_says_who_has_no_weight_and_what_is_missing_to_say_why(tmp_path):
    page = page_of(Run.read(run_in(tmp_path)))
    whys = {row.name: row.why for row in page.silos}
    for name in ("silo 6", "silo 7"):
        assert "no event of kind run, and no settings.json" in whys[name]
    assert whys["silo 0"] == ""
    assert "silo 6" in write_report(tmp_path).read_text(encoding="utf-8")


def test_with_the_settings_beside_them_the_same_events_are_explained(tmp_path):
    run_in(tmp_path)
    (tmp_path / "settings.json").write_text(json.dumps({"beta": 0.1, "strategy": "fedlaw"}))
    why = {row.name: row.why for row in page_of(Run.read(tmp_path)).silos}
    assert "alignment" in why["silo 6"]


@pytest.mark.parametrize("loss", [True, False])
def test_the_scores_of_the_learner_alignment_are_taken_apart_without_losses(tmp_path, loss):
    strategy = FedLAW(max_byzantine=2, lr=0.1, variant="alignment", run_dir=tmp_path, startup_timeout=5.0)
    with stopped_clock():
        strategy.start(
            ScriptedGrid([silo(i, loss) for i in range(8)]), record_of({"w": np.zeros(4, np.float32)}), 1, 30
        )
    run = Run.read(tmp_path)
    found = score_of(run, run.rounds[0], "silo 6")
    assert found.before[0] == pytest.approx(1 / 8) and found.loss == (0.0, 0.0) and found.decided == "alignment"
    assert (tmp_path / "report.html").exists()
