"""Peer review as a weight learner: who is believed, what withholding brings, and what the model does meanwhile."""

from dataclasses import replace

import numpy as np
import pytest

from fedlaw_flwr.core.setting import settings_of
from fedlaw_flwr.core.simplex import Simplex
from fedlaw_flwr.learners.decisions import Reviews, Skip, Step, Updates
from fedlaw_flwr.learners.interface import PeerEvidence
from fedlaw_flwr.learners.learning import WeightLearning
from fedlaw_flwr.learners.options import REVIEW_PARTS, WeightOptions
from fedlaw_flwr.learners.review import PeerReview, oddness

N, D, B = 10, 40, 3
NO_ONE = np.zeros(N, bool)


def world(seed=0, attackers=(7, 8, 9), lies=False):
    """Honest silos want the same, seen through noise of their own; attackers send the reverse, and forge reviews."""
    rng = np.random.default_rng(seed)
    aim = rng.normal(size=D)
    updates = aim + 0.7 * rng.normal(size=(N, D))
    reviews = aim + 0.7 * rng.normal(size=(N, D))
    for i in attackers:
        updates[i] *= -1
        reviews[i] = -aim if lies else -reviews[i]
    return updates.astype(np.float32), reviews.astype(np.float32)


def first(updates, reviews, losses=None, silent=(), trusted=NO_ONE, root=None, silos=None):
    said = np.linalg.norm(reviews.astype(np.float64), axis=1)
    said[list(silent)] = np.nan
    rows = range(len(updates)) if silos is None else silos
    return Updates(
        silos=list(rows),
        updates=updates.copy(),
        losses=np.ones(len(updates)),
        norms=np.linalg.norm(updates.astype(np.float64), axis=1),
        asked=len(updates),
        rejected=0,
        honest=np.ones(len(updates), bool),
        reviews=Reviews(reviews, said, np.ones(len(updates)) if losses is None else losses, trusted, root),
    )


def learning(**options):
    return WeightLearning(WeightOptions(variant="review", **options), N, B, 0.1, quorum=0)


def test_the_round_needs_no_second_exchange_and_attackers_get_no_weight():
    learner = learning()
    assert learner.asks_for_reviews(1)
    step = learner.open(1, first(*world()))
    assert isinstance(step, Step)
    assert step.weights[7:].tolist() == [0, 0, 0]
    np.testing.assert_allclose(step.weights[:7], 1 / 7)
    assert step.account.vouching.tolist() == list(range(7))
    assert step.account.reviewers.tolist() == list(range(10))


def test_nobody_is_excluded_where_nobody_is_objected_to():
    step = learning().open(1, first(*world(attackers=())))
    np.testing.assert_allclose(step.weights, 1 / N)
    assert len(step.account.vouching) == N - B


def test_liars_that_praise_one_another_do_not_win():
    step = learning().open(1, first(*world(lies=True)))
    assert step.weights[7:].tolist() == [0, 0, 0] and (step.weights[:7] > 0).all()


def test_reviews_are_asked_for_while_weights_are_learned_and_not_afterwards():
    learner = learning(weight_rounds=2)
    asked = []
    for number in range(1, 5):
        asked.append(learner.asks_for_reviews(number))
        sent = first(*world(number))
        step = learner.open(number, sent if asked[-1] else replace(sent, reviews=None))
        assert isinstance(step, Step)
    assert asked == [True, True, False, False]
    assert step.account.phase == "frozen" and step.weights[7:].sum() == 0


def test_a_silo_without_a_review_is_judged_and_has_no_voice():
    updates, reviews = world()
    spoilt = reviews.copy()
    spoilt[[2, 8]] = 1e9
    here = learning().open(1, first(updates, spoilt, silent=(2, 8)))
    assert here.weights[8] == 0 and here.weights[2] > 0
    assert here.account.reviewers.tolist() == [0, 1, 3, 4, 5, 6, 7, 9]
    assert np.isnan(here.account.support[:, [2, 8]]).all()


@pytest.mark.parametrize("silent", [(7, 8, 9, 0), (0, 1, 2, 3), tuple(range(10))])
def test_with_fewer_than_m_less_b_reviews_the_model_stays_and_the_round_is_made_up_for(silent):
    learner = learning(weight_rounds=1)
    skip = learner.open(1, first(*world(), silent=silent))
    assert isinstance(skip, Skip) and "7 are needed" in skip.reason
    assert learner.asks_for_reviews(2)
    assert isinstance(learner.open(2, first(*world())), Step)
    assert not learner.asks_for_reviews(3)


def test_a_rejected_reply_lowers_b_and_a_missing_review_does_not():
    updates, reviews = (rows[:9] for rows in world(attackers=(7, 8)))
    sent = replace(first(updates, reviews, silent=(7, 8), silos=range(9), trusted=NO_ONE[:9]), asked=10, rejected=1)
    assert isinstance(learning().open(1, sent), Step)  # b' = 2 of 9: 7 reviews are needed, and 7 came
    sent = replace(first(updates, reviews, silent=(6, 7, 8), silos=range(9), trusted=NO_ONE[:9]), asked=10, rejected=1)
    assert isinstance(learning().open(1, sent), Skip)


def test_a_silo_that_is_away_keeps_what_was_said_of_it_and_weights_do_not_depend_on_the_order():
    updates, reviews = world()
    order = np.random.default_rng(2).permutation(N)
    one, other = learning(), learning()
    here = one.open(1, first(updates, reviews))
    there = other.open(1, first(updates[order], reviews[order], silos=order.tolist()))
    np.testing.assert_array_equal(there.weights, here.weights[order])
    present = [0, 1, 2, 3, 4, 5, 7, 8]
    later = first(updates[present], reviews[present], silos=present, trusted=NO_ONE[:8])
    step = one.open(2, replace(later, asked=10))
    assert step.weights[6:].tolist() == [0, 0]


def test_trusted_reviewers_are_the_only_voices():
    updates, reviews = world(attackers=(4, 5, 6, 7, 8, 9))  # a majority: no peer can find them
    trusted = NO_ONE.copy()
    trusted[0] = True
    step = learning(trusted="silo 0").open(1, first(updates, reviews, trusted=trusted))
    assert step.weights[:4].min() > 0
    assert step.account.approval[4:].max() < 0


@pytest.mark.parametrize("silent", [(0,), (0, 1)])
def test_without_a_trusted_review_the_model_stays_and_no_other_voice_takes_over(silent):
    updates, reviews = world(attackers=(4, 5, 6, 7, 8, 9))
    trusted = NO_ONE.copy()
    trusted[0] = True
    sent = first(updates, reviews, silent=silent, trusted=trusted)
    skip = learning(trusted="bonn").open(1, sent)
    assert isinstance(skip, Skip) and "none of the trusted silos (bonn) sent a valid review" in skip.reason
    nobody = learning(trusted="misspelt").open(1, first(updates, reviews))
    assert isinstance(nobody, Skip) and "(misspelt)" in nobody.reason


def test_names_of_trusted_silos_may_have_blanks_round_them():
    assert WeightOptions(variant="review", trusted="bonn, aachen ,").trusted_names == {"bonn", "aachen"}


def test_a_root_of_trust_decides_between_groups_that_vouch_alike_and_its_objection_excludes():
    support = np.full((6, 6), -0.2)
    support[:3, :3] = support[3:, 3:] = 0.5
    for root, winners in (([1, 1, 1, -1, -1, -1], [0, 1, 2]), ([-1, -1, -1, 1, 1, 1], [3, 4, 5])):
        said = replace(evidence(support.copy()), root=0.3 * np.array(root, float))
        assert set(winners) <= set(PeerReview()(said).vouching.tolist())
    outsider = two_groups(0.1)
    assert PeerReview()(replace(outsider, root=np.full(6, 0.3))).weights[5] > 0
    judgement = PeerReview()(replace(outsider, root=np.array([0.3, 0.3, 0.3, 0.3, 0.3, -0.3])))
    assert judgement.vouching.tolist() == [0, 1, 2, 3] and judgement.weights[5] == 0


def test_a_root_of_trust_needs_no_reviews_of_silos():
    updates, reviews = world()
    step = learning().open(1, first(updates, reviews, silent=range(10), root=reviews[0].astype(np.float64)))
    assert isinstance(step, Step) and step.weights[7:].sum() == 0


@pytest.mark.parametrize("part", [*REVIEW_PARTS, "rank,size"])
def test_every_part_can_be_left_out(part):
    step = learning(review_without=part).open(1, first(*world(attackers=())))
    assert step.weights.sum() == pytest.approx(1)
    assert (step.weights > 0).sum() == (7 if part == "evidence" else 10)


def test_the_model_also_steps_along_the_reviews_of_the_set_as_far_as_is_asked():
    updates, reviews = world()
    for rho in (0.5, 2.0):
        sent = first(updates, reviews, silent=(2,))
        step = learning(review_step=rho, clip="none").open(1, sent)
        voices = reviews[[0, 1, 3, 4, 5, 6]].astype(np.float64)
        along = (voices / np.linalg.norm(voices, axis=1)[:, None]).mean(axis=0)
        assert step.account.vouching.tolist() == list(range(7))
        np.testing.assert_allclose(step.besides, rho * (step.weights @ sent.norms) * along, rtol=1e-6)


def test_where_the_operator_trusts_reviewers_the_model_steps_along_theirs_alone():
    updates, reviews = world(lies=True)
    trusted = np.isin(np.arange(N), [1, 4, 5])
    step = learning(trusted="bonn", clip="none").open(1, first(updates, reviews, silent=(5,), trusted=trusted))
    voices = reviews[[1, 4]].astype(np.float64)
    along = (voices / np.linalg.norm(voices, axis=1)[:, None]).mean(axis=0)
    assert step.besides @ along == pytest.approx(np.linalg.norm(step.besides) * np.linalg.norm(along))


def test_the_step_along_reviews_is_as_long_as_the_clipped_updates_allow():
    updates, reviews = world()
    updates[0] *= 1e6
    sent = first(updates, reviews)
    step = learning().open(1, sent)
    lengths = np.linalg.norm(sent.updates.astype(np.float64), axis=1)  # clipped in place
    assert lengths[0] < 100 and step.weights[0] > 0
    assert 0 < np.linalg.norm(step.besides) <= 0.5 * (step.weights @ lengths) * (1 + 1e-6)


def test_updates_alone_move_the_model_without_a_review_step_and_where_no_silo_reviews():
    assert learning(review_step=0).open(1, first(*world())).besides is None
    learner = learning(weight_rounds=1)
    assert learner.open(1, first(*world())).besides is not None
    assert learner.open(2, replace(first(*world()), reviews=None)).besides is None
    alone = first(*world(), silent=range(10), root=world()[1][0].astype(np.float64))
    assert learning().open(1, alone).besides is None  # the server's own review is a voice and no step


def test_a_set_that_wins_the_last_weight_round_alone_is_not_frozen():
    ours, theirs = np.full((6, 6), -0.3), np.full((6, 6), -0.3)
    ours[:4, :4] = theirs[2:, 2:] = 0.5
    for without, frozen in (((), [0, 1, 2, 3]), (("majority",), [2, 3, 4, 5])):
        judge = PeerReview(frozenset(["mean", *without]))
        for said in (ours, ours, ours, theirs):
            found = judge(evidence(said.copy()))
        assert np.flatnonzero(found.weights).tolist() == [2, 3, 4, 5]
        assert np.flatnonzero(found.lasting).tolist() == frozen


def test_what_is_frozen_is_what_lasts_and_a_resumed_run_knows_it():
    learner = learning(weight_rounds=3, review_without="mean")
    for number, attackers in ((1, (7, 8, 9)), (2, (7, 8, 9))):
        learner.open(number, first(*world(number, attackers)))
    resumed = learning(weight_rounds=3, review_without="mean")
    resumed.restore(learner.state())
    for one in (learner, resumed):
        now = one.open(3, first(*world(3, (0, 1, 2))))
        assert now.weights[:3].tolist() == [0, 0, 0] and now.weights[7] > 0
        frozen = one.open(4, replace(first(*world(4)), reviews=None))
        assert frozen.weights[7:].tolist() == [0, 0, 0] and frozen.weights[0] > 0


def evidence(support, losses=None, excess=None):
    m = len(support)
    np.fill_diagonal(support, np.nan)
    losses = np.ones(m) if losses is None else losses
    excess = np.zeros(m) if excess is None else excess
    return PeerEvidence(
        range(m), support, support.copy(), None, losses, excess, np.zeros(m, bool), Simplex(m, 2, m - 2, 1.0)
    )


def test_a_high_loss_and_a_large_norm_count_against_a_silo_that_reviews_say_nothing_of():
    losses = np.array([1.0, 1.1, 0.9, 1.0, 1.05, 4.0])
    excess = np.array([0.0, 0, 0, 2.0, 0, 0])
    judgement = PeerReview()(evidence(np.zeros((6, 6)), losses, excess))
    assert judgement.vouching.tolist() == [0, 1, 2, 4]
    assert (judgement.weights > 0).all()  # and nobody speaks against them


def two_groups(across, back=None):
    """Silos 0 to 3 like one another, 4 and 5 are alone; `across` is what the four say of 5, `back` what 5 says."""
    support = np.full((6, 6), 0.01)
    support[:4, :4] = 0.5
    support[4, :] = support[:, 4] = 0.05
    support[5, :4] = across
    support[:4, 5] = across if back is None else back
    return evidence(support)


def test_a_silo_outside_the_set_is_excluded_if_either_says_no_to_the_other():
    for across, back, weighs in ((0.1, 0.1, True), (-0.3, 0.1, False), (0.1, -0.3, False)):
        judgement = PeerReview()(two_groups(across, back))
        assert judgement.vouching.tolist() == [0, 1, 2, 3]
        assert (judgement.weights[5] > 0) == weighs and judgement.weights[4] > 0
        assert np.sign(judgement.approval[5]) == np.sign(across) and np.sign(judgement.assent[5]) == np.sign(back)
    assert PeerReview(frozenset(["assent"]))(two_groups(0.1, -0.3)).weights[5] > 0


def test_an_update_that_pleases_everyone_alike_joins_no_group_by_that():
    support = np.full((6, 6), -0.1)
    support[:4, :4] = 0.3
    support[4:, :] = 0.31  # two silos whose update everyone likes best, and who like nobody
    support[:, 4:] = -0.1
    assert PeerReview()(evidence(support)).vouching.tolist() == [0, 1, 2, 3]


def test_earlier_rounds_count_less():
    judge, plain = PeerReview(), PeerReview(frozenset(["decay"]))
    for one in (judge, plain):
        for across in (0.3, 0.3, 0.3, -0.3, -0.3):
            found = one(two_groups(across))
        assert found.vouching.tolist() == [0, 1, 2, 3]
    assert judge(two_groups(-0.3)).weights[5] == 0
    rounds = 0.7 ** np.arange(5)[::-1]
    np.testing.assert_allclose(plain(two_groups(-0.3)).approval[5], 0, atol=1e-12)
    assert (rounds * [1, 1, 1, -1, -1]).sum() < 0


def test_a_loss_far_from_the_median_on_either_side_counts_against_a_silo_and_a_low_one_never_for_it():
    losses = np.array([1.0, 2.0, 3.0, 100.0, 0.5, np.nan])  # median 2, MAD 1
    odd = oddness(losses)
    np.testing.assert_allclose(odd[:5], [0, 0, 1 / 1.4826, 3, 2 * (1.5 / 1.4826 - 1)])
    assert np.isnan(odd[5])
    assert oddness(np.array([2.0, 2.0, np.nan])).tolist()[:2] == [0, 0]


def test_claiming_a_loss_of_0_gains_nothing_over_claiming_the_median():
    honest = np.array([1.0, 1.1, 0.9, 1.2])
    said = [PeerReview()(evidence(np.zeros((6, 6)), np.array([*honest, claimed, 1.0]))) for claimed in (0.0, 1.0)]
    inside = [4 in judgement.vouching for judgement in said]
    assert inside == [False, True]


def test_the_setting_names_every_part_that_can_be_left_out():
    said = settings_of(WeightOptions)["review_without"].help
    assert f"({', '.join(REVIEW_PARTS)})" in said


def test_settings_that_peer_review_does_not_have_are_refused():
    with pytest.raises(ValueError, match="'review' has none of these"):
        WeightOptions(variant="review", score_decay=0.5)
    for setting in ({"trusted": "bonn"}, {"review_step": 0.0}):
        with pytest.raises(ValueError, match="only variant='review'"):
            WeightOptions(**setting)
    with pytest.raises(ValueError, match="is not one of rank"):
        WeightOptions(variant="review", review_without="ranks")
