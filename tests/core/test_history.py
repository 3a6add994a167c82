"""Scores gathered over rounds: about the median, cut, kept through absence, lowered where a score was avoided."""

import numpy as np

from fedlaw_flwr.core.history import ScoreHistory


def test_scores_are_gathered_about_the_median_of_those_scored():
    history = ScoreHistory()
    assert history.add(["a", "b", "c"], np.array([0.75, 0.5, 0.0]), 0.5).tolist() == [0.25, 0.0, -0.5]
    assert history.add(["c", "a", "b"], np.array([0.5, 0.25, 0.0]), 0.5).tolist() == [-0.25 + 0.25, 0.125, -0.25]


def test_one_rounds_score_counts_at_most_one_and_moves_nobody_elses():
    history = ScoreHistory()
    usual = history.add(["a", "b", "c", "d"], np.array([0.3, 0.1, 0.0, -0.1]), 1.0)
    absurd = ScoreHistory().add(["a", "b", "c", "d"], np.array([0.3, 0.1, 0.0, -1e28]), 1.0)
    assert absurd[:3].tolist() == usual[:3].tolist() and absurd[3] == -1.0


def test_who_is_new_or_was_not_scored_starts_from_the_least_there_is():
    history = ScoreHistory()
    history.add(["a", "b", "c"], np.array([0.5, 0.0, -0.25]), 1.0)
    history.lower(["a"])
    assert history.add(["a", "b", "new"], np.zeros(3), 1.0).tolist() == [-0.25, 0.0, -0.25]


def test_a_silo_with_the_worst_record_gains_nothing_by_avoiding_its_score():
    history = ScoreHistory()
    history.add(["a", "b", "bad"], np.array([0.5, 0.0, -0.25]), 1.0)
    history.lower(["bad"])
    assert history.add(["a", "b", "bad"], np.zeros(3), 1.0)[2] == -0.25


def test_an_absent_silo_keeps_its_score():
    history = ScoreHistory()
    history.add(["a", "b", "c"], np.array([0.5, 0.0, 0.0]), 1.0)
    history.add(["b"], np.array([9.0]), 1.0)
    assert history.add(["a", "b"], np.zeros(2), 1.0).tolist() == [0.5, 0.0]
