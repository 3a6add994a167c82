"""A run as tables, and as a notebook shows it."""

import math

import pytest
from scripted_runs import AGREES, ALIKE, HOSTILE, Scripted, but, hostile

from fedlaw_flwr import load_run
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.verdict import verdict

pd = pytest.importorskip("pandas")


@pytest.fixture
def run(tmp_path):
    scripted = Scripted(tmp_path, max_byzantine=1).learned(but(AGREES, silo_3=-0.5), ALIKE)
    scripted.gate("silo 2", "no answer within 600 s", kind="silent").frozen(absent=["silo 2"]).end()
    return load_run(scripted.folder)


def test_weights_are_a_row_a_round_and_a_column_a_silo(run):
    assert list(run.weights.index) == [1, 2] and list(run.weights.columns) == [f"silo {n}" for n in range(6)]
    for number, weights in run.run.weights.items():
        assert run.weights.loc[number].dropna().to_dict() == weights
    assert math.isnan(run.weights.loc[2, "silo 2"])


def test_replies_hold_every_figure_of_every_silo_and_round(run):
    assert run.replies.index.names == ["round", "silo"] and len(run.replies) == 12
    first = run.run.rounds[0]
    assert run.replies.loc[(1, "silo 3"), "part"] == "excluded"
    assert run.replies.loc[(2, "silo 2"), "part"] == "silent"
    assert run.replies.loc[1]["loss"].to_list() == list(first.losses)
    assert run.replies.loc[1]["score"].to_list() == list(first.scores)
    assert run.replies.loc[2]["score"].isna().all()


def test_rounds_and_silos_add_up_to_the_verdict(run):
    found = verdict(Run.of(run.run.events))
    assert run.rounds["bytes_up"].sum() == found.bytes_up and run.rounds["seconds"].sum() == found.seconds
    assert run.rounds.loc[1, "seconds_2"] == 2.0 and math.isnan(run.rounds.loc[2, "seconds_2"])
    assert run.silos.index[0] == "silo 3"  # what a reader looks for comes first
    assert run.silos.loc["silo 3", "short"] == "It pointed against the others in round 1."
    assert run.evaluations["accuracy"].to_dict() == run.run.accuracies
    assert run.verdict == found and run.settings["num-silos"] == 6


def test_a_run_that_failed_before_its_first_round_has_empty_tables(tmp_path):
    Scripted(tmp_path, started=False).end("failed", reason="ValueError: no data")
    run = load_run(str(tmp_path))
    assert len(run.rounds) == len(run.weights) == len(run.replies) == len(run.silos) == len(run.evaluations) == 0


def test_a_notebook_shows_the_story_and_the_figures_as_text(tmp_path):
    shown = load_run(hostile(tmp_path))._repr_html_()
    assert "<h3>FedLAW on digits: 6 silos, 1 of them attacker</h3>" in shown and "70.0 %" in shown
    assert HOSTILE not in shown and "&lt;script&gt;alert(1)&lt;/script&gt;" in shown


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no run here"):
        load_run(tmp_path)
