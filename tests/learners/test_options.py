"""The options beyond the paper: clusters, conflicts, the loss fence, capped sizes, decaying scores."""

from itertools import pairwise

import numpy as np
import pytest
from flwr.app import MetricRecord
from hypothesis import given, settings
from hypothesis import strategies as st
from pulled import pulled
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform
from scripted import ScriptedGrid, record_of, reply, stopped_clock

from fedlaw_flwr.apps.byzantine.simulated import app
from fedlaw_flwr.config.settings import Settings, SettingsError
from fedlaw_flwr.core.clusters import cap_cluster_weight, clusters
from fedlaw_flwr.core.losses import raise_low_losses
from fedlaw_flwr.core.projection import project
from fedlaw_flwr.events.folder import RunFailed
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import ReplyRejected, RoundEnded
from fedlaw_flwr.protocol import gate
from fedlaw_flwr.reporting.explanations import score_of
from fedlaw_flwr.rules import RuleSettings, check
from fedlaw_flwr.rules.fedavg import capped_sizes
from fedlaw_flwr.simulation.in_process import run_in_process
from fedlaw_flwr.strategy import FedLAW, RuleStrategy

props = settings(derandomize=True, deadline=None, max_examples=200)
# What silos have in common, a coordinate for each of ten to have of its own, and one for colluders to meet at.
TARGET = np.array([0.3, -0.3, 0.6, 0.15] + [0.0] * 11, np.float32)
START = {"w": np.zeros(15, np.float32)}


# -- clusters --------------------------------------------------------------------------------------------------


def test_silos_that_say_the_same_share_a_label_however_loudly_they_say_it():
    updates = np.array([[1, 0], [0, 1], [3, 0], [1, 0.01], [-1, 0]], np.float32)
    assert clusters(updates, 0.05, largest=4).tolist() == [0, 1, 0, 0, 2]


@pytest.mark.parametrize(("degrees", "together"), [(2.8, True), (2.9, False)])
def test_the_distance_is_the_chord_between_directions(degrees, together):
    # 2 sin(2.8 / 2) = 0.0489, 2 sin(2.9 / 2) = 0.0506
    angle = np.radians(degrees)
    updates = np.array([[1, 0], [5 * np.cos(angle), 5 * np.sin(angle)]])
    assert (len(set(clusters(updates, 0.05, largest=2).tolist())) == 1) is together


def test_more_silos_than_can_be_byzantine_are_no_cluster_since_honest_ones_are_among_them():
    updates = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 2)
    assert clusters(updates, 0.05, largest=3).tolist() == [0, 0, 0, 1, 1]
    assert clusters(updates, 0.05, largest=2).tolist() == [0, 1, 2, 3, 3]


def test_updates_of_nothing_say_nothing_together():
    assert clusters(np.zeros((3, 4), np.float32), 0.5, largest=3).tolist() == [0, 1, 2]


@props
@given(st.integers(2, 12), st.integers(1, 6), st.floats(0.05, 1.9), st.integers(0, 2**32 - 1))
def test_clusters_are_the_connected_components_scipy_finds_among_unit_vectors(m, d, distance, seed):
    updates = np.random.default_rng(seed).normal(size=(m, d))
    chords = squareform(pdist(updates / np.linalg.norm(updates, axis=1, keepdims=True)))
    if np.any(np.abs(chords - distance) < 1e-6):
        return
    _, expected = connected_components(chords <= distance)
    found = clusters(updates, distance, largest=m)
    assert np.array_equal(found[:, None] == found, expected[:, None] == expected)


@props
@given(st.lists(st.floats(1e-3, 1e3), min_size=6, max_size=6), st.permutations(range(6)), st.integers(0, 2**32 - 1))
def test_who_speaks_together_depends_on_neither_order_nor_length(lengths, order, seed):
    directions = np.random.default_rng(seed).normal(size=(4, 50))[[0, 1, 0, 2, 1, 3]]
    updates = (directions * np.array(lengths)[:, None])[list(order)]
    found, expected = clusters(updates, 0.01, largest=3), np.array([0, 1, 0, 2, 1, 3])[list(order)]
    assert np.array_equal(found[:, None] == found, expected[:, None] == expected)


def test_a_cluster_has_the_weight_of_one_silo_and_its_members_share_it():
    # Sums 0.6, 0.2 and 0.2 on {sum 1, each at most 0.4}: the 0.2 above the cap goes to the others alike.
    w = np.full(5, 0.2)
    np.testing.assert_allclose(cap_cluster_weight(w, np.array([0, 0, 0, 1, 2]), 0.4), [0.4 / 3] * 3 + [0.3, 0.3])
    # A cap under which three could not hold all the weight is read as a third.
    np.testing.assert_allclose(cap_cluster_weight(w, np.array([0, 0, 0, 1, 2]), 0.25), [1 / 9] * 3 + [1 / 3] * 2)
    assert w.tolist() == [0.2] * 5


def test_what_a_cluster_loses_goes_to_none_who_has_no_weight():
    w = np.array([0.3, 0.3, 0.4, 0.0, 0.0])
    np.testing.assert_allclose(cap_cluster_weight(w, np.array([0, 0, 1, 2, 3]), 0.5), [0.25, 0.25, 0.5, 0, 0])
    # Two without weight may say the same: that is nobody's business.
    assert cap_cluster_weight(w, np.array([0, 1, 2, 3, 3]), 0.5).tolist() == w.tolist()


def test_where_nobody_speaks_together_the_weights_are_what_they_were():
    w = np.array([0.7, 0.1, 0.2])
    found = cap_cluster_weight(w, np.arange(3), 0.4)
    assert found.tolist() == w.tolist() and found is not w


@props
@given(st.lists(st.integers(0, 4), min_size=3, max_size=15), st.floats(0.05, 1), st.integers(0, 2**32 - 1))
def test_no_cluster_is_above_the_cap_and_all_weight_is_given(labels, t, seed):
    labels = np.unique(labels, return_inverse=True)[1]
    w = np.random.default_rng(seed).dirichlet(np.ones(labels.size))
    found = cap_cluster_weight(w, labels, t)
    assert found.sum() == pytest.approx(1) and found.min() >= 0
    assert not found[w == 0].any()
    if labels.max() + 1 < labels.size:
        assert np.bincount(labels, found).max() <= max(t, 1 / (labels.max() + 1)) + 1e-12


# -- the fence ---------------------------------------------------------------------------------------------------


def test_a_fence_of_no_width_believes_no_loss_below_the_median():
    losses = np.array([0.0, 1, 2, 3, 4, 5, 6, 70])
    raised, low = raise_low_losses(losses, width=0)
    assert raised.tolist() == [3.5] * 4 + [4, 5, 6, 70] and low.tolist() == [True] * 4 + [False] * 4


@props
@given(st.lists(st.floats(0, 1e3), min_size=8, max_size=20), st.floats(0, 5), st.floats(0, 5))
def test_a_narrower_fence_believes_no_lower_loss(losses, one, other):
    narrow, wide = sorted((one, other))
    assert np.all(raise_low_losses(np.array(losses), narrow)[0] >= raise_low_losses(np.array(losses), wide)[0])


def test_why_a_silo_has_no_weight_is_told_with_the_fence_of_the_run(tmp_path):
    chosen = {"num-silos": 12, "num-rounds": 2, "local-epochs": 1, "max-byzantine": 2, "loss-fence": 0.0}
    run_in_process(app, Settings.read(chosen), tmp_path)
    run = Run.read(tmp_path)
    before = run.weights[1]
    for silo in run.rounds[1].scored:
        assert score_of(run, run.rounds[1], silo).before[0] == pytest.approx(before[silo], abs=1e-9)


# -- in the strategy ---------------------------------------------------------------------------------------------


def honest(i):
    return pulled(i, TARGET + np.eye(15, dtype=np.float32)[4 + i])


def colluder(i, loudness=1.0, noise=0.0):
    """One of those who all push the same wrong way, with an own noise if they are careful."""
    push = np.eye(15)[14] + noise * np.eye(15)[4 + i]

    def answer(received):
        arrays = (
            None if received.reply == "loss" else {"w": (received.arrays["w"] + loudness * push).astype(np.float32)}
        )
        return reply(arrays, 1.5, partition=i)  # about what the honest report at the start

    return answer


def turning(i, after):
    """Honest through this round, then the opposite, with the loss it really has."""

    def answer(received):
        content, theta = honest(i)(received), received.arrays["w"]
        if received.round > after and received.reply != "loss":
            content["arrays"] = record_of({"w": (2 * theta - content["arrays"]["w"].numpy()).astype(np.float32)})
        return content

    return answer


def run(scripts, rounds, strategy):
    events = []
    strategy.on_event = events.append
    grid = ScriptedGrid(scripts)
    with stopped_clock():
        result = strategy.start(grid, record_of(START), num_rounds=rounds, timeout=30)
    return result, [event for event in events if isinstance(event, RoundEnded)], events, grid


def fedlaw(**changed):
    return FedLAW(**{"max_byzantine": 4, "lr": 0.1, "beta": 0.1, "startup_timeout": 5.0} | changed)


def weight_on(event, silos):
    return sum(event.weight_of[f"silo {i}"] for i in silos)


def test_a_cluster_that_props_itself_up_is_named_and_weighs_no_more_than_a_silo():
    scripts = [*(honest(i) for i in range(6)), *(colluder(i, loudness=1 + i / 4) for i in range(6, 10))]
    plain = run(scripts, 3, fedlaw())[1]
    _, heard_once, _, _ = run(scripts, 3, fedlaw(cluster_distance=0.05))
    attackers = range(6, 10)
    assert heard_once[0].clusters == (tuple(f"silo {i}" for i in attackers),)
    assert plain[0].clusters is None
    assert weight_on(plain[0], attackers) > 0.5
    for event in heard_once:
        assert weight_on(event, attackers) <= 12 / (11 * 7) + 1e-12  # t of seven: six silos and a coalition
        assert min(weight_on(event, [i]) for i in range(6)) > 0  # four of ten stand apart, so no honest silo need go
        assert len({event.scores[i] for i in attackers}) == 1


def test_colluders_who_add_noise_of_their_own_are_not_seen_as_one_which_is_this_guards_limit():
    scripts = [*(honest(i) for i in range(6)), *(colluder(i, noise=0.3) for i in range(6, 10))]
    rounds = run(scripts, 1, fedlaw(cluster_distance=0.05))[1]
    assert rounds[0].clusters == ()


def test_without_a_cluster_the_guard_changes_no_bit():
    scripts = [honest(i) for i in range(10)]
    plain, guarded = run(scripts, 4, fedlaw())[1], run(scripts, 4, fedlaw(cluster_distance=0.01))[1]
    assert [event.weights for event in plain] == [event.weights for event in guarded]
    assert [event.scores for event in plain] == [event.scores for event in guarded]


def test_weights_are_learned_again_in_the_round_in_which_a_silo_that_carries_some_turns():
    scripts = [turning(0, after=2), *(honest(i) for i in range(1, 10))]
    blind = run(scripts, 4, fedlaw(weight_rounds=2, max_byzantine=1, beta=3.0))[1]
    _, watched, _, grid = run(scripts, 4, fedlaw(weight_rounds=2, max_byzantine=1, beta=3.0, relearn_on_conflict=True))
    assert weight_on(blind[2], [0]) > 0 and blind[2].conflicts is None
    assert watched[2].conflicts == ("silo 0",) and watched[2].phase == "learning"
    assert 0 < weight_on(watched[2], [0]) < weight_on(blind[2], [0]) / 3  # its standing speaks for it still
    assert watched[3].conflicts == ("silo 0",) and weight_on(watched[3], [0]) == 0
    assert grid.asked(3, 2) and grid.asked(4, 2)


def test_while_nobody_turns_a_watched_round_is_one_exchange():
    _, rounds, _, grid = run(
        [honest(i) for i in range(10)], 4, fedlaw(weight_rounds=2, max_byzantine=1, relearn_on_conflict=True)
    )
    assert [event.phase for event in rounds] == ["learning", "learning", "frozen", "frozen"]
    assert grid.asked(3, 2) == {} and all(event.conflicts is None for event in rounds)


def test_a_silo_without_weight_may_point_anywhere():
    scripts = [*(honest(i) for i in range(9)), turning(9, after=0)]
    rounds = run(scripts, 4, fedlaw(weight_rounds=2, max_byzantine=1, relearn_on_conflict=True))[1]
    assert weight_on(rounds[1], [9]) == 0 and rounds[2].phase == "frozen"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cluster_distance": 2.0}, "cluster_distance=2.0"),
        ({"cluster_distance": -0.1}, "cluster_distance=-0.1"),
        ({"loss_fence": -1.0}, "loss_fence=-1.0"),
        ({"loss_fence": float("inf")}, "loss_fence=inf"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_value(changed, said):
    with pytest.raises(ValueError, match=said):
        fedlaw(**changed)


# -- what a claim of size buys -----------------------------------------------------------------------------------


def test_capped_sizes_are_mcmahans_weights_up_to_the_cap():
    assert capped_sizes(np.array([10.0, 30.0]), 1000).tolist() == [0.25, 0.75]
    assert capped_sizes(np.array([10.0, 0.0, 1e12]), 30).tolist() == [0.25, 0.0, 0.75]


@props
@given(st.lists(st.floats(0, 1e15), min_size=3, max_size=20), st.integers(1, 1000), st.integers(1, 10))
def test_b_liars_hold_no_more_than_b_caps_of_the_sum(sizes, cap, b):
    b, sizes = min(b, len(sizes) - 1), np.array(sizes)
    honest_sum = np.minimum(sizes[b:], cap).sum()
    sizes[:b] = 1e300
    assert capped_sizes(sizes, cap)[:b].sum() <= b * cap / (b * cap + honest_sum) + 1e-12


@pytest.mark.parametrize("sizes", [[1.0, -1.0], [1.0, np.nan], [1.0, np.inf], [0.0, 0.0]])
def test_sizes_that_are_none_are_refused_with_the_numbers(sizes):
    with pytest.raises(ValueError, match="sizes="):
        capped_sizes(np.array(sizes), 10)


def claiming(i, **metrics):
    def answer(received):
        content = honest(i)(received)
        content["metrics"] = MetricRecord({"loss": 1.0, **metrics})
        return content

    return answer


def fedavg(size_cap):
    return RuleStrategy(
        "fedavg", lr=0.1, max_byzantine=1, startup_timeout=5.0, rule_settings=RuleSettings(size_cap=size_cap)
    )


def claims(*sizes):
    return [claiming(i, **({} if size is None else {"num-examples": size})) for i, size in enumerate(sizes)]


def test_under_a_cap_silos_weigh_by_their_claims_and_a_boast_buys_the_cap():
    _, rounds, _, _ = run(claims(10, 20, 30, 10**12), 1, fedavg(size_cap=40))
    assert rounds[0].weights == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("size", "said"), [(-5, "num-examples is -5"), (float("nan"), "num-examples is nan"), (None, "no number under")]
)
def test_under_a_cap_a_claim_that_is_no_size_is_rejected_with_the_reason(size, said):
    scripts = claims(10, 10, 20, size)
    _, rounds, events, _ = run(scripts, 1, fedavg(size_cap=40))
    assert [(e.silo, said in e.reason) for e in events if isinstance(e, ReplyRejected)] == [("silo 3", True)]
    assert rounds[0].weights == pytest.approx([0.25, 0.25, 0.5])
    _, rounds, events, _ = run(scripts, 1, fedavg(size_cap=0))
    assert rounds[0].weights == pytest.approx([0.25] * 4)
    assert not [e for e in events if isinstance(e, ReplyRejected)]


def test_where_all_claim_to_hold_nothing_the_model_is_skipped():
    strategy, events = fedavg(size_cap=40), []
    strategy.on_event = events.append
    with stopped_clock(), pytest.raises(RunFailed, match="all 4 silos with usable replies claim 0 examples"):
        strategy.start(ScriptedGrid(claims(0, 0, 0, 0)), record_of(START), num_rounds=1, timeout=30)
    (ended,) = [event for event in events if isinstance(event, RoundEnded)]
    assert ended.skipped and "claim 0 examples" in ended.reason


def test_a_claim_beyond_any_float_is_refused():
    class Vast(dict):
        pass

    content = reply(None, 1.0)
    content["metrics"] = MetricRecord({"loss": 1.0, "num-examples": 10**400})
    with pytest.raises(gate.Rejected, match="beyond the largest float"):
        gate.read_size(content)


@pytest.mark.parametrize(
    ("rule", "changed", "said"),
    [("krum", {}, "only fedavg"), ("fedavg", {"nnm": True}, "bucketing"), ("fedavg", {"bucket_size": 2}, "bucketing")],
)
def test_sizes_go_with_plain_averaging_alone(rule, changed, said):
    with pytest.raises(ValueError, match=said):
        check(rule, 20, RuleSettings(f=1, size_cap=10, **changed))


def test_fedlaw_takes_no_size_cap():
    with pytest.raises(SettingsError, match="size-cap=10: FedLAW learns its weights"):
        Settings.read({"size-cap": 10})
    assert Settings.read({"size-cap": 10, "strategy": "fedavg"}).rule_settings().size_cap == 10


# -- the decay of the scores --------------------------------------------------------------------------------------


def misled(i, until, far=3):
    """Honest, but for `until` rounds its data point elsewhere: a silo of mislabelled records that are then mended."""

    def answer(received):
        if received.round > until:
            return honest(i)(received)
        off = received.arrays["w"] + far * TARGET
        arrays = None if received.reply == "loss" else {"w": received.arrays["w"] - 0.1 * off}
        return reply(arrays, float(np.sum(off**2)) + 0.01, partition=i)

    return answer


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_with_a_decay_above_0_weights_are_the_projection_of_what_all_rounds_have_said(decay):
    scripts = [misled(0, until=3), *(honest(i) for i in range(1, 10))]
    rounds = run(scripts, 5, fedlaw(score_decay=decay, max_byzantine=2, weight_rounds=-1, loss_filter=False))[1]
    y = np.zeros(10)
    for event in rounds:
        evidence = np.array(event.alignment) - 0.1 * np.array(event.trial_losses)
        y = decay * y + np.clip(evidence - np.median(evidence), -1, 1)
        np.testing.assert_allclose(event.scores, 1 / 10 + y, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(event.weights, project(1 / 10 + y, 8, 12 / 88), atol=1e-9)


def test_a_silo_that_was_excluded_comes_back_by_what_it_is_sooner_the_faster_scores_decay():
    # Nine of ten carry weight. Silo 0 is worse than silo 9 for two rounds, then honest; silo 9 never is.
    scripts = [misled(0, until=2), *(honest(i) for i in range(1, 9)), misled(9, until=99, far=2)]

    def first_back(decay):
        rounds = run(scripts, 30, fedlaw(score_decay=decay, max_byzantine=1, weight_rounds=-1, loss_filter=False))[1]
        assert weight_on(rounds[1], [0]) == 0
        return next((event.round for event in rounds[2:] if weight_on(event, [0]) > 0), 31)

    assert first_back(0.3) < first_back(0.9) < 31


def shouting(i, when):
    """The opposite of honest; in one round it says that its loss is absurd."""

    def answer(received):
        theta = received.arrays["w"]
        arrays = None if received.reply == "loss" else {"w": theta + 0.1 * (theta - TARGET)}
        loss = 1.0 + float(np.sum((theta - TARGET) ** 2))  # as an honest silo's
        return reply(arrays, 1e30 if received.round == when else loss, partition=i)

    return answer


@pytest.mark.parametrize("decay", [0.9, 1.0])
def test_one_absurd_loss_does_not_make_the_others_forget(decay):
    scripts = [shouting(0, when=3), shouting(1, when=99), shouting(2, when=99), *(honest(i) for i in range(3, 10))]
    rounds = run(scripts, 8, fedlaw(score_decay=decay, max_byzantine=3, weight_rounds=-1))[1]
    assert [weight_on(event, [0, 1, 2]) for event in rounds] == [0.0] * 8


def test_a_silo_that_was_absent_when_another_shouted_has_lost_nothing():
    absent = [honest(0), *(honest(i) for i in range(1, 7)), *(shouting(i, when=3) for i in (7, 8, 9))]
    absent[0] = lambda received: None if received.round == 3 else honest(0)(received)
    rounds = run(absent, 8, fedlaw(score_decay=1.0, max_byzantine=3, weight_rounds=-1))[1]
    assert weight_on(rounds[-1], [0]) > 0.1 and weight_on(rounds[-1], [7, 8, 9]) == 0


def test_without_decay_a_score_is_the_weight_before_and_this_rounds_evidence():
    rounds = run([honest(i) for i in range(10)], 4, fedlaw())[1]
    for before, event in pairwise(rounds):
        evidence = np.array(event.alignment) - 0.1 * np.array(event.trial_losses)
        np.testing.assert_allclose(event.scores, np.array(before.weights) + evidence, atol=1e-12)


def test_a_decay_outside_its_range_or_with_bsum_is_refused():
    with pytest.raises(ValueError, match=r"score_decay=1.5: it should be less than or equal to 1"):
        fedlaw(score_decay=1.5)
    with pytest.raises(ValueError, match=r"score_decay=0.5: variant='bsum' goes by"):
        fedlaw(score_decay=0.5, variant="bsum")
    with pytest.raises(SettingsError, match=r"score-decay=0.5: variant='bsum' goes by"):
        Settings.read({"score-decay": 0.5, "variant": "bsum"})
