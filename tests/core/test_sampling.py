"""Who is drawn for a round, how many, the weights allowed among them, and what lasts for those not drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlaw_flwr.core.history import ScoreHistory
from fedlaw_flwr.core.sampling import draw, enough_asked, sample_size
from fedlaw_flwr.core.schedule import Schedule
from fedlaw_flwr.core.simplex import Simplex, capped
from fedlaw_flwr.core.standing import Sample, Standing

KEYS = [f"silo {number}" for number in range(20)]


def test_the_same_seed_and_round_draw_the_same_silos_in_whatever_order_they_are_listed():
    drawn = draw(KEYS, 10, seed=3, server_round=7)
    assert len(drawn) == 10 and drawn == draw(KEYS[::-1], 10, 3, 7)
    assert drawn != draw(KEYS, 10, 3, 8) and drawn != draw(KEYS, 10, 4, 7)


def test_who_is_drawn_before_whom_does_not_depend_on_who_else_is_there():
    drawn = draw(KEYS, 10, 0, 1)
    others = [key for key in KEYS if key not in drawn]
    assert draw([key for key in KEYS if key not in others[:5]], 10, 0, 1) == drawn


def test_every_silo_is_drawn_equally_often():
    """400 rounds of 10 out of 20: binomial with mean 200 and deviation 10; six deviations never come up by chance."""
    counts = dict.fromkeys(KEYS, 0)
    for server_round in range(400):
        for key in draw(KEYS, 10, 0, server_round):
            counts[key] += 1
    assert all(abs(count - 200) < 60 for count in counts.values())


@pytest.mark.parametrize(
    ("fraction", "n", "size"), [(0.5, 20, 10), (0.3, 10, 3), (0.31, 10, 4), (1.0, 7, 7), (0.1, 3, 1)]
)
def test_the_size_of_a_sample_is_rounded_up_and_not_by_a_float_s_hair(fraction, n, size):
    assert sample_size(fraction, n) == size


@given(st.floats(0.01, 0.99), st.integers(2, 300), st.integers(2, 300))
@settings(derandomize=True, deadline=None)
def test_a_refusal_names_the_least_fraction_of_two_decimals_that_would_do(fraction, n, needed):
    needed = min(needed, n)
    if sample_size(fraction, n) >= needed:
        enough_asked(fraction, n, needed, "a reason")
        return
    with pytest.raises(ValueError, match="a reason") as refusal:
        enough_asked(fraction, n, needed, "a reason")
    said = float(str(refusal.value).rpartition(" ")[2])
    assert sample_size(said, n) >= needed
    assert said <= 0.01 or sample_size(round(said - 0.01, 2), n) < needed


@given(st.integers(2, 60), st.data())
@settings(derandomize=True, deadline=None)
def test_the_weights_of_a_sample_leave_out_b_of_it_and_are_never_an_empty_set(n, data):
    b = data.draw(st.integers(0, (n - 2) // 2))
    federation = Simplex.for_federation(n, b)
    k = data.draw(st.integers(2 * b + 2, n))
    sampled = federation.sampled(k)
    assert (sampled.n, sampled.b, sampled.s) == (k, b, k - b)
    assert sampled.s * sampled.t >= 1 - 1e-12
    assert federation.sampled(n) is federation
    assert sampled.among(k) is not None and sampled.among(2 * b + 1) is None
    s = data.draw(st.integers(1, n))
    other = Simplex(n, b, s, max(federation.t, 1 / s)).sampled(k)
    assert 1 <= other.s <= k and other.s * other.t >= 1 - 1e-12


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 1))
@settings(derandomize=True, deadline=None)
def test_weights_are_cut_to_the_cap_and_whoever_had_none_gets_none(values, t):
    w = np.array(values)
    w = w / w.sum() if w.sum() > 1e-6 else np.full(w.size, 1 / w.size)
    cut = capped(w, t)
    assert cut.sum() == pytest.approx(1)
    assert cut.max() <= max(t, 1 / np.count_nonzero(w)) * (1 + 1e-9)
    assert not cut[w == 0].any()
    order = np.argsort(w)
    assert (np.diff(cut[order]) >= -1e-12).all()  # nobody overtakes anybody


def test_weights_below_the_cap_stay_to_the_bit():
    w = np.array([0.1, 0.2, 0.3, 0.4])
    assert capped(w, 0.4).tolist() == w.tolist()


# -- the weights of the absent -------------------------------------------------------------------------------------


def sample(*asked, n=4, needed=4):
    return Sample(frozenset(asked), 1 / n, needed)


def test_a_silo_that_is_not_drawn_keeps_its_weight_on_the_scale_of_the_federation():
    standing = Standing(Schedule(weight_rounds=-1))
    standing.learn("ab", np.array([0.75, 0.25]), 1, sample("a", "b"))
    standing.learn("cd", np.array([0.5, 0.5]), 2, sample("c", "d"))
    # By hand: 0.75 of 2 silos is 0.375 of 4, and 0.5 of 2 is 0.25 of 4.
    np.testing.assert_allclose(standing.over("abcd"), [0.375, 0.125, 0.25, 0.25])


def test_a_silo_never_drawn_starts_a_weight_round_from_its_share_and_not_from_0():
    standing = Standing(Schedule(weight_rounds=-1))
    standing.learn("ab", np.array([1.0, 0.0]), 1, sample("a", "b"))
    np.testing.assert_allclose(standing.over("abc", prior=0.25), [2 / 3, 0, 1 / 3])
    np.testing.assert_allclose(standing.over("abc"), [1, 0, 0])


def test_weights_are_not_frozen_before_enough_silos_were_scored():
    standing = Standing(Schedule(weight_rounds=1))
    standing.learn("ab", np.array([0.5, 0.5]), 1, sample("a", "b"))
    assert standing.learns(2)
    standing.learn("cd", np.array([0.5, 0.5]), 2, sample("c", "d"))
    assert not standing.learns(3)
    np.testing.assert_allclose(standing.over("abcd"), 0.25)


def test_who_was_silent_when_a_weight_round_last_asked_it_carries_no_weight_into_the_frozen_rounds():
    standing = Standing(Schedule(weight_rounds=3))
    standing.learn("ab", np.array([0.5, 0.5]), 1, sample("a", "b", needed=2))
    standing.learn("cd", np.array([0.5, 0.5]), 2, sample("c", "d", needed=2))
    standing.learn("bc", np.array([0.5, 0.5]), 3, sample("a", "b", "c", needed=2))
    assert not standing.learns(4)
    assert standing.over("abcd")[0] == 0 and standing.over("abcd")[3] > 0


def test_of_a_sample_the_weight_that_did_not_answer_is_told_as_a_share_of_the_weight_asked():
    standing = Standing(Schedule(weight_rounds=1))
    standing.learn("abcd", np.array([0.25, 0.25, 0.5, 0.0]), 1, sample(*"abcd"))
    assert standing.missing("a", asked="ab") == pytest.approx(0.5)
    assert standing.missing("d", asked="d") == 1  # nobody with weight was asked
    assert standing.missing("abc") == pytest.approx(0)


def test_after_forgetting_weights_are_learned_until_enough_silos_were_scored_again():
    standing = Standing(Schedule(weight_rounds=1))
    standing.learn("abcd", np.full(4, 0.25), 1, sample(*"abcd"))
    standing.relearn()
    standing.learn("ab", np.full(2, 0.5), 5, sample("a", "b"))
    assert standing.learns(6)
    standing.learn("cd", np.full(2, 0.5), 6, sample("c", "d"))
    assert not standing.learns(7)


def test_scores_of_a_silo_not_drawn_are_kept_and_one_drawn_for_the_first_time_starts_in_the_middle():
    history = ScoreHistory()
    history.add("abc", np.array([0.5, 0.0, -0.5]), 1.0, first=0.0)
    assert history.add("ad", np.array([0.1, 0.1]), 1.0, first=0.0).tolist() == [0.5, 0.0]
    assert history.add("ae", np.array([0.1, 0.1]), 1.0).tolist() == [0.5, -0.5]  # as a silo that joins late
