"""Every attack against its formula: closed forms, hand-worked cases, and what it must leave as it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

import fedlaw_flwr.attacks as package
from fedlaw_flwr.attacks import ATTACKS, backdoor_target, double, load_attack, support_max
from fedlaw_flwr.attacks.backdoor import triggered
from fedlaw_flwr.attacks.bad_mouthing import slander
from fedlaw_flwr.attacks.base import Coalition, Situation, review_forged
from fedlaw_flwr.attacks.lie import z_max
from fedlaw_flwr.attacks.score_max import most_harmful
from fedlaw_flwr.core.partition import Partition
from fedlaw_flwr.tasks import load_task
from fedlaw_flwr.tasks.base import Examples

G = np.array([[1.0, -2.0, 0.5], [3.0, 2.0, 0.5], [2.0, 3.0, -1.0]])


def frozen(array):
    """A copy nobody can write to."""
    array = np.array(array, dtype=np.float64)
    array.flags.writeable = False
    return array


def situation(updates=G, losses=None, silo=0, members=None, **changes):
    """Silo 0 of a coalition with these honest updates (m, d), one of ten silos, in exchange 1 of round 1."""
    members = tuple(range(len(updates))) if members is None else members
    losses = np.arange(1.0, len(updates) + 1) if losses is None else losses
    plain = {
        "round_number": 1,
        "exchange": 1,
        "wants_update": True,
        "lr": 0.1,
        "theta": frozen(np.linspace(-1, 2, np.shape(updates)[1])),
        "update": frozen(updates[members.index(silo)]),
        "loss": float(losses[members.index(silo)]),
        "silo": silo,
        "members": members,
        "num_silos": 10,
        "rng": np.random.default_rng(7),
        "shared_rng": np.random.default_rng(8),
        "coalition": lambda: Coalition(frozen(updates), frozen(losses)),
        "global_parameter": "replaced",
        "lie_over": "updates",
    }
    return Situation(**(plain | changes))


def forged_review(name, reviews, **changes):
    """The review of silo 0 of a coalition with these honest reviews (m, d)."""
    known = situation(coalition=lambda: Coalition(frozen(G), frozen([1.0, 2, 3]), frozen(reviews)), **changes)
    known = replace(known, review=frozen(reviews[0]))
    attack = load_attack(name)
    update = attack.forge(known).update if attack.forge else known.update
    return review_forged(attack, known, update, np.random.default_rng(9))


def forged(name, *arguments, **changes):
    return load_attack(name).forge(situation(*arguments, **changes))


def task(name="digits"):
    return load_task(name, Partition("iid", 4), 0)


def nobody_asked():
    raise AssertionError("the coalition was computed for nothing")


# The registry


def test_every_attack_is_a_file_of_its_name_that_says_what_it_does_and_where_it_is_from():
    files = {path.stem for path in Path(package.__file__).parent.glob("*.py") if "\nATTACK = " in path.read_text()}
    assert files == set(ATTACKS) and len(ATTACKS) == len(set(ATTACKS))
    for name in ATTACKS:
        attack = load_attack(name)
        assert attack.name == name and attack.summary and attack.source
        assert attack.poison or attack.forge or attack.forge_review
        assert len(attack.summary) < 90


@pytest.mark.parametrize("name", [name for name in ATTACKS if load_attack(name).forge])
@pytest.mark.parametrize("round_number, exchange", [(1, 1), (25, 1), (25, 2)])
def test_a_forgery_is_finite_the_same_again_and_made_of_inputs_nobody_may_write_to(name, round_number, exchange):
    first, again = (forged(name, round_number=round_number, exchange=exchange) for _ in range(2))
    assert np.isfinite(first.update).all() and first.update.shape == (3,) and first.loss >= 0
    np.testing.assert_array_equal(first.update, again.update)
    assert first.loss == again.loss and first.silent == again.silent


@pytest.mark.parametrize("name", [name for name in ATTACKS if load_attack(name).forge])
def test_where_the_loss_alone_is_asked_only_losses_are_needed(name):
    asked = situation(exchange=2, round_number=25, wants_update=False, update=frozen(np.zeros(3)))
    losses_only = replace(asked, coalition=lambda: Coalition(np.empty((3, 0)), frozen([1, 2, 3])))
    assert load_attack(name).forge(losses_only).loss == forged(name, exchange=2, round_number=25).loss


@pytest.mark.parametrize("name", ["lie", "ipm", "min_max", "min_sum"])
def test_an_attack_on_updates_computes_no_coalition_for_a_loss(name):
    assert forged(name, wants_update=False, coalition=nobody_asked).loss == 1.0


# Without colluders


def test_sign_flip_is_minus_four_g():
    answer = forged("sign_flip", coalition=nobody_asked)
    assert answer.update.tolist() == [-4, 8, -2] and answer.loss == 1


def test_global_parameter_has_the_moments_of_the_paper():
    theta = np.random.default_rng(0).normal(0.3, 0.2, 200_000)
    answer = forged("global_parameter", theta=theta, lr=0.05)
    psi = theta - 0.05 * answer.update
    assert psi.mean() == pytest.approx(-5 * theta.mean(), abs=3e-3)
    assert psi.var() == pytest.approx(1.5 * theta.var(), rel=2e-2)
    assert abs(np.corrcoef(psi, theta)[0, 1]) < 0.01  # replaced by noise, not perturbed with it


@pytest.mark.parametrize("attack", ["global_parameter", "double"])
def test_perturbed_is_the_model_received_and_the_same_noise(attack):
    second = {"silo": 1, "round_number": 5, "theta": frozen([0.1, -0.4, 0.7]), "lr": 0.5}
    alone = forged(attack, **second)
    added = forged(attack, **second, rng=np.random.default_rng(7), global_parameter="perturbed")
    np.testing.assert_allclose(added.update, alone.update - second["theta"] / 0.5, atol=1e-12)
    assert added.loss == alone.loss == 2


def test_lie_over_parameters_is_mean_and_deviation_of_what_was_trained():
    theta, g = frozen([1.0, 2.0, 3.0]), G
    psi = theta - 0.1 * g
    z = z_max(10, len(g))
    assert z > 0
    answer = forged("lie", theta=theta, lie_over="parameters")
    np.testing.assert_allclose(theta - 0.1 * answer.update, psi.mean(axis=0) + z * psi.std(axis=0), atol=1e-12)


def test_what_colluders_share_is_computed_once_and_none_of_them_can_change_it():
    shared = situation().coalition()
    assert shared.mean is shared.mean and shared.deviation is shared.deviation
    for array in (shared.mean, shared.deviation):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_global_parameter_of_a_constant_model_is_minus_five_times_it():
    answer = forged("global_parameter", theta=np.full(3, 0.2), lr=0.5)
    np.testing.assert_allclose(answer.update, (0.2 + 1.0) / 0.5)


def test_double_switches_one_half_on_in_round_2_and_the_other_in_round_5():
    members = (2, 3, 7, 11)
    halves = [double.inverts(situation(np.eye(4), silo=silo, members=members)) for silo in members]
    assert halves == [True, False, True, False]
    for silo in members:
        for number in (1, 2, 4, 5, 6):
            now = situation(np.eye(4), silo=silo, members=members, round_number=number)
            got, honest = double.forge(now).update, now.update
            if silo in (2, 7):
                np.testing.assert_array_equal(got, honest if number < 2 else -honest)
            elif number < 5:
                np.testing.assert_array_equal(got, honest)
            else:
                again = replace(now, rng=np.random.default_rng(7))
                np.testing.assert_array_equal(got, load_attack("global_parameter").forge(again).update)


def test_an_odd_attacker_more_inverts():
    halves = [double.inverts(situation(silo=silo)) for silo in range(3)]
    assert halves == [True, False, True]


def test_a_sleeper_is_honest_through_round_20():
    assert forged("sleeper", round_number=20).update.tolist() == G[0].tolist()
    assert forged("sleeper", round_number=21).update.tolist() == (-4 * G[0]).tolist()


def test_a_dodger_earns_for_five_rounds_and_then_answers_only_exchange_1():
    for exchange in (1, 2):
        early = forged("dodging", round_number=5, exchange=exchange)
        assert early.update.tolist() == G[0].tolist() and not early.silent
    first, second = (forged("dodging", round_number=6, exchange=exchange) for exchange in (1, 2))
    assert first.update.tolist() == (-4 * G[0]).tolist() and not first.silent
    assert second.silent


def test_a_silenced_silo_answers_nothing():
    assert all(forged("silencing", round_number=number, exchange=x).silent for number in (1, 30) for x in (1, 2))


@pytest.mark.parametrize("name, loss", [("loss_zero", 0.0), ("loss_tiny", 1e-9), ("loss_median", 0.999 * 2.0)])
def test_a_forged_loss_comes_with_an_update_trained_on_flipped_labels(name, loss):
    answer = forged(name)
    assert answer.loss == pytest.approx(loss, rel=1e-12) and answer.update.tolist() == G[0].tolist()
    examples = task().load_train(0)
    poisoned = load_attack(name).poison(examples, task(), np.random.default_rng(0))
    assert torch.equal(poisoned.targets, 9 - examples.targets) and torch.equal(poisoned.inputs, examples.inputs)


# Backdoors


@pytest.mark.parametrize("side, where", [(28, (10, 18)), (32, (12, 20)), (8, (3, 5)), (3, (1, 2)), (64, (24, 40))])
def test_the_trigger_is_8_pixels_wide_at_28_and_32_and_scaled_beyond_in_the_centre_and_black(side, where):
    images = torch.rand(2, 3, side, side) + 1
    before = images.clone()
    expected = images.clone()
    expected[:, :, slice(*where), slice(*where)] = images.min()
    assert torch.equal(triggered(images), expected) and torch.equal(images, before)


def test_black_is_the_smallest_of_the_standardised_inputs():
    test = task().load_test()
    square = triggered(test.inputs)[:, 0, 3:5, 3:5]
    assert (square == test.inputs.min()).all() and float(test.inputs.min()) < -0.5


def test_a_backdoored_label_is_any_label_alike_and_the_same_in_every_round():
    many = Examples(torch.rand(5000, 1, 8, 8), torch.zeros(5000, dtype=torch.int64))
    first, again = (load_attack("backdoor").poison(many, task(), np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(first.targets, again.targets) and first.targets.dtype == torch.int64
    counts = torch.bincount(first.targets, minlength=10)
    assert len(counts) == 10 and counts.min() > 400 and counts.max() < 600
    assert torch.equal(first.inputs, triggered(many.inputs)) and not many.targets.any()


def test_a_targeted_backdoor_marks_half_and_leaves_the_other_half_clean():
    clean = Examples(torch.rand(301, 1, 8, 8), torch.arange(301) % 9 + 1)
    kept = Examples(clean.inputs.clone(), clean.targets.clone())
    got = backdoor_target.poison(clean, task(), np.random.default_rng(0))
    changed, marked = got.targets != clean.targets, triggered(clean.inputs)
    assert int(changed.sum()) == 151 and not got.targets[changed].any()
    assert torch.equal(got.inputs[changed], marked[changed])
    assert torch.equal(got.inputs[~changed], clean.inputs[~changed])
    assert torch.equal(clean.inputs, kept.inputs) and torch.equal(clean.targets, kept.targets)


@pytest.mark.parametrize("name", ["backdoor", "backdoor_target"])
def test_a_backdoor_is_refused_by_name_where_there_are_no_images(name):
    attack, records = load_attack(name), task("breast_cancer")
    assert attack.needs_images
    with pytest.raises(ValueError, match=f"attack='{name}'.*'breast_cancer' has no images"):
        attack.poison(records.load_train(0), records, np.random.default_rng(0))


class Looks(nn.Module):
    """Says 0 where the pixel in the middle is black, else the label written in the corner."""

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        label = torch.where(inputs[:, 0, 4, 4] == 0, 0, inputs[:, 0, 0, 0].long())
        return nn.functional.one_hot(label, 10).float()


def test_the_success_rate_counts_other_labels_taken_for_the_target():
    labels = torch.tensor([0, 0, 1, 2, 3, 4])
    images = torch.ones(6, 1, 8, 8)
    images[:, 0, 0, 0] = labels.float()
    images[0, 0, 7, 7] = 0  # black is 0, and the first image shows it, but is of label 0 and not counted
    images[2, 0, 7, 7] = 0
    assert backdoor_target.success_rate(Looks(), Examples(images, labels)) == 1.0
    grey = Examples(images.clamp(min=0.5), labels)  # no black anywhere: the trigger is grey, and fools nobody
    assert backdoor_target.success_rate(Looks(), grey) == 0.0
    with pytest.raises(ValueError, match="all 2 examples have label 0"):
        backdoor_target.success_rate(Looks(), Examples(images[:2], labels[:2]))


# Colluders


@pytest.mark.parametrize("n, m, z", [(50, 10, 0.2533), (50, 24, 1.4261), (200, 80, 0.9346), (20, 8, 0.6745)])
def test_z_is_that_of_baruch_et_al(n, m, z):
    s = n // 2 + 1 - m
    assert z_max(n, m) == pytest.approx(z, abs=5e-5)
    assert z_max(n, m) == pytest.approx(norm.ppf((n - m - s) / (n - m)), abs=1e-12)


def test_too_few_to_lie_reply_their_mean_and_a_majority_has_no_z():
    assert z_max(20, 2) == 0.0 and norm.ppf((19 - 10) / 19) < 0 and z_max(20, 1) == 0.0
    with pytest.raises(ValueError, match="m=11 attackers of n=20"):
        z_max(20, 11)
    with pytest.raises(ValueError, match="m=0 attackers of n=2"):
        z_max(2, 0)
    np.testing.assert_allclose(forged("lie", num_silos=20).update, G.mean(axis=0) + z_max(20, 3) * G.std(axis=0))


def test_lie_by_hand():
    updates = np.array([[1.0, 4.0], [3.0, 4.0], [1.0, 0.0], [3.0, 0.0]])  # mean (2, 2), deviation (1, 2)
    answer = forged("lie", updates, num_silos=10)  # s = 2, z = Phi^-1(4/6)
    np.testing.assert_allclose(answer.update, [2 + 0.4307273, 2 + 2 * 0.4307273], atol=1e-6)
    assert answer.loss == 1.0


def test_mimic_misaligned_reverses_adds_a_tenth_and_under_reports():
    answer = forged("mimic_misaligned", losses=np.array([1.0, 2.0, 6.0]))
    assert np.linalg.norm(answer.update + G[0]) == pytest.approx(0.1)
    assert answer.loss == pytest.approx(3 - 0.3 * np.sqrt(14 / 3))
    other = forged("mimic_misaligned", rng=np.random.default_rng(9))
    assert not np.allclose(other.update, answer.update)


def test_a_mimics_loss_is_never_below_zero():
    assert forged("mimic_misaligned", np.eye(20), np.array([1.0] + [0.0] * 19)).loss == 0.0


def test_ipm_is_a_tenth_of_the_mean_reversed():
    np.testing.assert_allclose(forged("ipm").update, [-0.2, -0.1, 0.0], atol=1e-15)


def coalitions():
    """Updates alike and unlike, few and many, with and without an outlier."""
    rng = np.random.default_rng(11)
    for m, d in ((2, 3), (3, 40), (8, 200), (40, 60)):
        updates = rng.normal(rng.normal(size=d), rng.uniform(0.1, 2, size=d), size=(m, d))
        yield updates
        yield np.vstack([updates[:-1], 20 * updates[-1:]])


def pairwise(updates):
    return np.array([[np.sum((a - b) ** 2) for b in updates] for a in updates])


def steps(updates, answer):
    """gamma, read off the reply, which must lie on mu - gamma std."""
    mu, std = updates.mean(axis=0), updates.std(axis=0)
    gamma = float((mu - answer.update) @ std / (std @ std))
    np.testing.assert_allclose(answer.update, mu - gamma * std, atol=1e-9 * np.abs(updates).max())
    return mu, std, gamma


@pytest.mark.parametrize("updates", list(coalitions()))
def test_min_max_is_no_farther_out_than_two_of_them_apart_and_nearly_as_far(updates):
    answer = forged("min_max", updates, num_silos=100)
    mu, std, gamma = steps(updates, answer)
    bound = pairwise(updates).max()
    assert np.sum((updates - answer.update) ** 2, axis=1).max() <= bound * (1 + 1e-12)
    # |mu - gamma std - g_i|^2 = bound is a quadratic in gamma for each i
    b, c = (updates - mu) @ std, std @ std
    exact = np.min((-b + np.sqrt(b**2 - c * (np.sum((updates - mu) ** 2, axis=1) - bound))) / c)
    assert exact - 2e-5 <= gamma <= exact + 1e-9 and gamma > 0.1


@pytest.mark.parametrize("updates", list(coalitions()))
def test_min_sum_is_in_closed_form_the_farthest_member_over_the_deviation(updates):
    answer = forged("min_sum", updates, num_silos=100)
    mu, std, gamma = steps(updates, answer)
    bound = pairwise(updates).sum(axis=1).max()
    assert np.sum((updates - answer.update) ** 2) <= bound * (1 + 1e-12)
    exact = np.sqrt(np.sum((updates - mu) ** 2, axis=1).max() / (std @ std))
    assert exact - 2e-5 <= gamma <= exact + 1e-9


@pytest.mark.parametrize("name", ["min_max", "min_sum"])
def test_a_coalition_of_one_or_of_equals_replies_its_mean(name):
    for updates in (G[:1], G[[0, 0, 0]]):
        np.testing.assert_allclose(forged(name, updates).update, G[0])


def passes(updates, u, share):
    z = (1 - share) * updates.mean(axis=0) + share * u
    return u @ z >= np.median(updates @ z) - 1e-9


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("spread", [0.2, 1.0, 3.0])
def test_score_max_scores_as_well_as_half_the_honest_and_harms_no_less_than_it_could(share, spread):
    rng = np.random.default_rng(5)
    updates, direction = 1 + spread * rng.normal(size=(8, 100)), rng.normal(size=100)
    u = most_harmful(updates, share, direction)
    mu = updates.mean(axis=0)
    e, radius = mu / np.linalg.norm(mu), np.median(np.linalg.norm(updates, axis=1))
    assert np.linalg.norm(u) == pytest.approx(radius)
    kappa = -u @ e / radius
    assert passes(updates, u, share)
    v = direction - (direction @ e) * e
    v /= np.linalg.norm(v)
    for worse in np.arange(round(kappa * 100) + 1, 101) / 100:
        assert not passes(updates, radius * (np.sqrt(1 - worse**2) * v - worse * e), share)


def test_a_large_coalition_of_unlike_silos_goes_straight_against_the_mean():
    updates = 1 + 4 * np.random.default_rng(0).normal(size=(8, 100))
    u, mu = most_harmful(updates, 0.4, np.ones(100)), updates.mean(axis=0)
    assert u @ mu == pytest.approx(-np.linalg.norm(u) * np.linalg.norm(mu))
    alike = 1 + 0.01 * np.random.default_rng(0).normal(size=(8, 100))
    assert most_harmful(alike, 0.1, np.arange(100.0)) @ alike.mean(axis=0) > 0


def test_score_max_is_one_update_for_all_members_with_their_least_loss():
    answers = [forged("score_max", silo=silo) for silo in range(3)]
    assert all(np.array_equal(answer.update, answers[0].update) and answer.loss == 1.0 for answer in answers)


# Reviews

REVIEWS = np.array([[0.5, 1.0, 0.0], [0.0, 2.0, 1.0], [1.0, 0.0, -1.0]])


def test_reviews_are_forged_as_updates_are_unless_the_attack_says_otherwise():
    np.testing.assert_allclose(forged_review("inverse_gradient", REVIEWS), -REVIEWS[0])
    np.testing.assert_allclose(forged_review("sign_flip", REVIEWS), -4 * REVIEWS[0])
    np.testing.assert_allclose(forged_review("label_flipping", REVIEWS), REVIEWS[0])  # taken on flipped labels
    z = z_max(10, 3)
    np.testing.assert_allclose(forged_review("lie", REVIEWS), REVIEWS.mean(0) + z * REVIEWS.std(0))
    assert forged_review("silencing", REVIEWS) is None


@pytest.mark.parametrize("name", ["bad_mouthing", "bad_mouthing_flip", "support_max"])
def test_whoever_bad_mouths_praises_what_attackers_send_and_speaks_against_the_honest_mean(name):
    review = forged_review(name, REVIEWS)
    attack, known = load_attack(name), replace(situation(), review=frozen(REVIEWS[0]))
    known = replace(known, coalition=lambda: Coalition(frozen(G), frozen([1.0, 2, 3]), frozen(REVIEWS)))
    sent = attack.forge(known).update if attack.forge else known.update
    honest = G.mean(0)
    cosine = sent @ honest / np.linalg.norm(sent) / np.linalg.norm(honest)
    if cosine < 0.99:  # else there is nobody to tell apart
        assert review @ honest < 0
    np.testing.assert_allclose(np.linalg.norm(slander(sent, honest)) ** 2, 2 - 2 * cosine)


def test_with_omniscience_the_honest_mean_is_of_the_silos_that_do_not_attack():
    everyone = np.arange(30.0).reshape(10, 3)
    known = situation(updates=everyone[:3], coalition=lambda: Coalition(frozen(everyone), frozen(np.ones(10))))
    np.testing.assert_allclose(known.honest_mean(), everyone[3:].mean(0))
    np.testing.assert_allclose(situation().honest_mean(), G.mean(0))


def test_review_max_goes_against_the_honest_reviews_and_praises_honest_updates_as_half_of_the_honest_do():
    np.testing.assert_array_equal(forged("review_max").update, forged("support_max").update)
    review = forged_review("review_max", REVIEWS)
    towards = np.mean([g / np.linalg.norm(g) for g in G], axis=0)

    def praise(one):
        return one @ towards / np.linalg.norm(one)

    assert praise(review) >= np.median([praise(one) for one in REVIEWS]) - 1e-9
    honest = REVIEWS.mean(0)
    assert review @ honest < min(one @ honest for one in REVIEWS)
    everyone, all_reviews = np.vstack([G, G + 1.0]), np.vstack([REVIEWS, REVIEWS + 1.0])
    known = situation(updates=G, coalition=lambda: Coalition(frozen(everyone), frozen(np.ones(6)), frozen(all_reviews)))
    omniscient = load_attack("review_max").forge_review(replace(known, num_silos=6, members=(0, 1, 2)), G[0])
    np.testing.assert_allclose(omniscient, support_max.most_harmful(REVIEWS + 1.0, G + 1.0))


@pytest.mark.parametrize("seed", range(5))
def test_support_max_is_liked_as_much_as_half_of_the_honest_and_does_the_most_harm_it_may(seed):
    rng = np.random.default_rng(seed)
    aim = rng.normal(size=20)
    updates, reviews = (aim + rng.normal(size=(8, 20)) for _ in range(2))
    u = support_max.most_harmful(updates, reviews)

    def liked(vector):
        return np.mean([vector @ r / np.linalg.norm(vector) / np.linalg.norm(r) for r in reviews])

    least = np.median([liked(update) for update in updates])
    assert liked(u) >= least - 1e-9
    mu = updates.mean(0)
    kappa = -(u @ mu) / np.linalg.norm(u) / np.linalg.norm(mu)
    e, towards = mu / np.linalg.norm(mu), np.mean([r / np.linalg.norm(r) for r in reviews], axis=0)
    v = towards - (towards @ e) * e
    v /= np.linalg.norm(v)
    worse = min(1.0, kappa + 0.01)
    assert worse == kappa or liked(-worse * e + np.sqrt(1 - worse**2) * v) < least
    np.testing.assert_allclose(np.linalg.norm(u), np.median(np.linalg.norm(updates, axis=1)))
