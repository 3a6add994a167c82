"""Weight learners without Flower or a model: what a round asks of them, and what each variant changes."""

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedlaw_flwr import learners
from fedlaw_flwr.core.projection import project
from fedlaw_flwr.core.scores import least_loss
from fedlaw_flwr.learners import LEARNERS, fedlaw, load_learner
from fedlaw_flwr.learners.decisions import Reviews, Skip, Step, Trial, Updates
from fedlaw_flwr.learners.interface import Evidence, Learner, Score
from fedlaw_flwr.learners.learning import WeightLearning
from fedlaw_flwr.learners.options import WeightOptions

N, D, ALPHA = 10, 6, 0.1


def updates(seed=0, silos=range(N), rejected=0):
    rng = np.random.default_rng(seed)
    rows = ALPHA * (np.ones((N, D)) + 0.3 * rng.normal(size=(N, D))).astype(np.float32)
    rows[8:] *= -1  # two attackers
    rows, chosen = rows[list(silos)], list(silos)
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    losses = np.linspace(1, 1.5, len(chosen))
    return Updates(chosen, rows, losses, norms, len(chosen) + rejected, rejected, np.ones(len(chosen), bool))


def answered(trial, first, losses=None, silent=()):
    """The trial as silos fill it that would train the same again."""
    for row in range(len(first.silos)):
        if row in silent:
            continue
        if trial.carriers[row]:
            trial.direction.add(first.updates[row], float(np.linalg.norm(first.updates[row])), trial.weights[row])
        trial.losses[row] = first.losses[row] if losses is None else losses[row]
    return trial


def learning(variant="fedlaw", **options):
    return WeightLearning(WeightOptions(variant=variant, **{"beta": 0.5} | options), N, 2, ALPHA, quorum=0)


def reviewed(first):
    """The same updates with reviews by silos that want what they themselves send."""
    reviews = first.updates.astype(np.float64)
    nobody = np.zeros(len(first.silos), bool)
    return replace(first, reviews=Reviews(reviews, np.linalg.norm(reviews, axis=1), first.losses, nobody))


def rounds(learner, count, losses=None):
    """The steps of `count` rounds with the same updates, weights learned where the learner asks for a trial."""
    steps = []
    for number in range(1, count + 1):
        first = reviewed(updates()) if learner.asks_for_reviews(number) else updates()
        decision = learner.open(number, first)
        if isinstance(decision, Trial):
            decision = learner.close(answered(decision, first, losses), 0)
        assert isinstance(decision, Step)
        steps.append(decision)
    return steps


def test_a_weight_round_is_the_papers_score_and_its_projection():
    first = updates()
    learner = learning(clip="none", loss_filter=False)
    trial = learner.open(1, first)
    np.testing.assert_allclose(trial.weights, 1 / N)
    step = learner.close(answered(trial, first), 0)
    g = updates().updates.astype(np.float64) / ALPHA
    h = 1 / N + ALPHA * 0.5 * g @ (g.T @ np.full(N, 1 / N)) - 0.5 * first.losses
    np.testing.assert_allclose(step.account.scores, h, rtol=1e-6)
    np.testing.assert_allclose(step.weights, project(h, 8, 12 / 88), atol=1e-6)
    assert step.weights[8:].tolist() == [0, 0]


def test_bsum_is_the_weights_of_least_loss():
    step = rounds(learning("bsum", loss_filter=False), 1)[0]
    np.testing.assert_array_equal(step.weights, least_loss(updates().losses, 8, 12 / 88))


def test_after_the_weight_rounds_weights_are_frozen_and_no_trial_is_asked_for():
    learner = learning(weight_rounds=1)
    first = rounds(learner, 1)[0]
    decision = learner.open(2, updates(seed=1))
    assert isinstance(decision, Step) and decision.account.phase == "frozen"
    np.testing.assert_allclose(decision.weights, first.weights)


def test_too_few_silos_are_a_skipped_round_with_the_numbers():
    decision = learning().open(1, updates(silos=range(5)))
    assert isinstance(decision, Skip)
    assert decision.reason == "5 silos gave usable replies and 6 are needed (2b+2, quorum 0)"


def test_a_silo_that_does_not_answer_the_trial_has_no_weight_and_is_named():
    learner, first = learning(), updates()
    step = learner.close(answered(learner.open(1, first), first, silent=(3,)), 0)
    assert step.account.unscored.tolist() == [3] and step.weights[3] == 0
    assert step.weights.sum() == pytest.approx(1)


def test_updates_longer_than_the_threshold_are_scaled_down_to_it_in_place():
    first = updates()
    first.updates[9] *= 50
    first = replace(first, norms=np.linalg.norm(first.updates.astype(np.float64), axis=1))
    trial = learning().open(1, first)
    threshold = np.sort(first.norms)[N - 2 - 1]
    assert trial.account.clip == pytest.approx(threshold / ALPHA)
    np.testing.assert_allclose(np.linalg.norm(first.updates, axis=1).max(), threshold, rtol=1e-5)


@pytest.mark.parametrize("name", LEARNERS)
def test_every_variant_gives_weights_of_the_simplex_over_many_rounds(name):
    for step in rounds(learning(name, weight_rounds=6), 8):
        assert step.weights.sum() == pytest.approx(1) and step.weights.min() >= 0
        assert np.count_nonzero(step.weights) <= 8 and step.weights.max() <= 12 / 88 + 1e-12


def test_every_file_of_a_learner_is_in_the_registry():
    folder = Path(learners.__file__).parent
    files = {path.stem for path in folder.glob("*.py") if "\nLEARNER = " in path.read_text()}
    assert files == set(LEARNERS)
    assert all(isinstance(load_learner(name), Learner) for name in LEARNERS)


def test_no_learner_imports_flower_or_torch():
    for path in Path(learners.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.split(".")[0] in ("flwr", "torch")], path.name


class Constant(Score):
    """A learner of a test: the same scores in every round."""

    def __init__(self, scores):
        self.scores = np.array(scores)

    def __call__(self, evidence: Evidence):
        return self.scores


def test_a_piece_of_ones_own_takes_the_place_of_fedlaws():
    learner = learning()
    learner.pieces = replace(learner.pieces, score=Constant([1.0] * 5 + [0.0] * 5))
    weights = rounds(learner, 1)[0].weights
    np.testing.assert_allclose(weights, project(np.array([1.0] * 5 + [0.0] * 5), 8, 12 / 88))


# -- what each variant changes -----------------------------------------------------------------------------------


def evidence(weights, alignment, losses):
    simplex = learning().simplex
    return Evidence(range(N), np.arange(N), np.array(weights), np.array(alignment), np.array(losses), ALPHA, simplex)


def raw(found, beta=0.5):
    return found.weights + beta / ALPHA * found.alignment - beta * found.losses


def test_momentum_averages_nine_tenths_of_the_scores_before_with_one_of_this_rounds():
    score = load_learner("momentum").build(WeightOptions(beta=0.5)).score
    one, two = (evidence(np.full(N, 0.1), np.arange(N) * k, np.ones(N)) for k in (0.01, 0.02))
    np.testing.assert_allclose(score(one), raw(one))
    np.testing.assert_allclose(score(two), 0.9 * raw(one) + 0.1 * raw(two))


@pytest.mark.parametrize(("name", "power"), [("falling", 1.0), ("falling_sqrt", 0.5)])
def test_a_falling_step_is_beta_over_a_power_of_the_weight_round(name, power):
    score = load_learner(name).build(WeightOptions(beta=0.5)).score
    found = evidence(np.full(N, 0.1), np.arange(N) * 0.01, np.ones(N))
    for k in (1, 2, 3):
        np.testing.assert_allclose(score(found), raw(found, 0.5 / k**power))


def test_normalised_alignment_does_not_change_with_the_length_of_an_update():
    align = load_learner("normalised").build(WeightOptions()).align
    rows, z = updates().updates, np.arange(D, dtype=float)
    longer = rows * np.array([[1 + i] for i in range(N)], np.float32)
    ratio = align(longer, z) / align(rows, z)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)  # all by the ratio of the median norms


def test_ranks_do_not_change_with_the_sizes_of_the_losses_far_from_the_median():
    keep = load_learner("ranks").build(WeightOptions()).filter_losses
    losses = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    spread = losses.copy()
    spread[-1] = 1e6
    assert keep(losses)[0].argsort().tolist() == list(range(10))
    np.testing.assert_allclose(keep(spread)[0], keep(losses)[0])


def test_stable_weights_freeze_once_the_same_silos_carried_weight_in_four_rounds():
    standing = load_learner("stable").build(WeightOptions()).standing
    supports = [(1, 1, 0), (1, 0, 1), (1, 0, 1), (1, 0, 1), (1, 0, 1)]
    learns = []
    for number, w in enumerate(supports, start=1):
        learns.append(standing.learns(number))
        standing.learn("abc", np.array(w) / 2, number)
    assert learns == [True] * 5 and not standing.learns(6)


def test_a_conflict_makes_all_weights_equal_first_where_that_is_asked_for():
    pieces = load_learner("relearn_from_equal").build(WeightOptions())
    assert pieces.forget_on_conflict and pieces.find_conflicts is fedlaw.conflicting
    assert not fedlaw.build(WeightOptions(relearn_on_conflict=True)).forget_on_conflict
