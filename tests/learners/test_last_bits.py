"""Weights and scores of a round, FedLAW's and peer review's: the same to the bit on any number of cores."""

import numpy as np
import pytest
from last_bits import outcomes

from fedlaw_flwr.core import blocks
from fedlaw_flwr.learners.decisions import Reviews, Updates
from fedlaw_flwr.learners.learning import WeightLearning
from fedlaw_flwr.strategy import FedLAW

RNG = np.random.default_rng(12)
N, D, B = 60, 3_000, 10
UPDATES = RNG.normal(size=(N, D)).astype(np.float32)
UPDATES[3] *= 5
LOSSES = RNG.uniform(1, 2, N)


def norms(rows):
    return np.array([blocks.norm(row) for row in rows])


def learning_with(**settings):
    return WeightLearning(FedLAW(max_byzantine=B, lr=0.1, num_silos=N, **settings), N, B, 0.1, 0)


@pytest.mark.parametrize("settings", [{}, {"cluster_distance": 0.05}, {"variant": "normalised"}])
def test_a_weight_round_gives_the_same_weights_and_scores_with_any_number_of_threads(settings):
    trials = UPDATES + RNG.normal(size=(N, D)).astype(np.float32) / 3

    def learned(updates, trials):
        learning = learning_with(**settings)
        first = Updates(list(range(N)), updates.copy(), LOSSES, norms(updates), N, 0, np.ones(N, bool))
        trial = learning.open(1, first)
        for row in np.flatnonzero(trial.carriers):
            trial.direction.add(trials[row], blocks.norm(trials[row]), trial.weights[row])
        trial.losses[:] = LOSSES
        step = learning.close(trial, 0)
        return np.concatenate([step.weights, step.account.scores, step.account.alignment])

    assert len(outcomes(learned, UPDATES, trials)) == 1


def test_a_round_of_peer_review_gives_the_same_support_and_weights_with_any_number_of_threads():
    halves = np.clip(RNG.normal(size=(N, D)) / 5, -1, 1).astype(np.float16)
    root = RNG.normal(size=D)

    def learned(updates, halves):
        reviews = Reviews(halves, norms(halves), LOSSES, np.zeros(N, bool), root)
        seen = norms(updates)
        first = Updates(list(range(N)), updates.copy(), LOSSES, seen, N, 0, np.ones(N, bool), reviews=reviews)
        step = learning_with(variant="review").open(1, first)
        return np.concatenate([step.weights, step.account.support.ravel(), step.account.approval])

    assert len(outcomes(learned, UPDATES, halves)) == 1
