"""What a run becomes in TensorBoard and in MLflow, read back with their own readers."""

import pytest
from scripted_runs import AGREES, ALIKE, Scripted, but

from fedlaw_flwr.events.record import Run
from fedlaw_flwr.reporting.trackers import scalars, to_mlflow, to_tensorboard


@pytest.fixture
def run(tmp_path):
    scripted = Scripted(tmp_path / "run", attackers=["silo 3"], max_byzantine=1)
    return scripted.learned(but(AGREES, silo_3=-0.5), ALIKE).frozen().end()


def test_every_figure_of_every_round_has_a_name(run):
    found = {(name, number): value for name, number, value in scalars(Run.read(run.folder))}
    assert found["evaluation/accuracy", 0] == 0.1 and found["evaluation/accuracy", 2] == 0.5
    assert found["round/excluded", 1] == 1 and found["round/weight_on_attackers", 2] == 0
    assert found["exchange_2/seconds", 1] == 2.0 and ("exchange_2/seconds", 2) not in found
    assert found["weight/silo 0", 1] == pytest.approx(0.25, abs=0.06)


def test_a_figure_that_is_no_number_and_a_letter_no_tracker_takes_are_left_out(tmp_path):
    scripted = Scripted(tmp_path)
    scripted.silos[0] = "<b>\n7</b>"
    scripted.learned(AGREES, ALIKE).accuracy(float("nan")).end()
    found = list(scalars(Run.read(tmp_path)))
    assert all(value == value for _, _, value in found)
    assert "weight/_b__7_/b_" in {name for name, _, _ in found}


@pytest.mark.slow
def test_tensorboard_reads_what_was_written(run, tmp_path):
    """10 seconds: torch and TensorBoard are loaded."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    place = to_tensorboard(run.folder, tmp_path / "boards")
    read = EventAccumulator(str(place)).Reload()
    assert [(one.step, one.value) for one in read.Scalars("evaluation/accuracy")] == [
        (0, pytest.approx(0.1)),
        (1, pytest.approx(0.3)),
        (2, pytest.approx(0.5)),
    ]
    weights = Run.read(run.folder).weights[1]
    assert read.Scalars("weight/silo 1")[0].value == pytest.approx(weights["silo 1"])
    histogram = read.Histograms("weights")[0].histogram_value
    assert histogram.num == 6 and histogram.sum == pytest.approx(1.0)
    assert b"1 of them attacked" in read.Tensors("story/text_summary")[0].tensor_proto.string_val[0]


@pytest.mark.slow
def test_mlflow_reads_what_was_written(run, tmp_path, monkeypatch):
    """20 seconds: MLflow makes its database."""
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    made = to_mlflow(run.folder, uri, "hospitals")
    client = MlflowClient(uri)
    kept = client.get_run(made)
    assert kept.info.status == "FINISHED" and kept.data.params["strategy"] == "fedlaw"
    assert len(kept.data.params) == len(run.settings.as_config())
    assert [(one.step, one.value) for one in client.get_metric_history(made, "evaluation/accuracy")] == [
        (0, 0.1),
        (1, pytest.approx(0.3)),
        (2, pytest.approx(0.5)),
    ]
    assert {file.path for file in client.list_artifacts(made)} == {"report.html", "events.jsonl"}
    assert to_mlflow(run.folder, uri, "hospitals") != made  # the experiment is there already
