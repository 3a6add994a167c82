"""The weights from bound to standing: b, s and t, the score, the linear programme, and who keeps what while absent."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from fedlaw_flwr.core import blocks
from fedlaw_flwr.core.direction import Direction
from fedlaw_flwr.core.projection import check_simplex, project
from fedlaw_flwr.core.schedule import Schedule
from fedlaw_flwr.core.scores import least_loss, score
from fedlaw_flwr.core.simplex import Simplex, byzantine_count, default_cap, fewest_silos
from fedlaw_flwr.core.standing import Standing

props = settings(derandomize=True, deadline=None, max_examples=200)


# -- b, s and t --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_byzantine", "n", "b"),
    [(3, 10, 3), (0, 2, 0), (4, 10, 4), (0.0, 10, 0), (0.3, 10, 3), (0.07, 100, 7), (0.2, 20, 4), (0.25, 10, 3)],
)
def test_a_count_is_itself_and_a_fraction_is_rounded_up_but_never_by_a_rounding_error(max_byzantine, n, b):
    assert byzantine_count(max_byzantine, n) == b


@props
@given(st.integers(0, 49), st.integers(2, 5000))
@example(7, 100)
@example(29, 100)
def test_so_many_percent_of_n_are_what_exact_arithmetic_says(percent, n):
    b = math.ceil(Fraction(percent, 100) * n)
    assume(2 * b + 2 <= n)
    assert byzantine_count(percent / 100, n) == b


@props
@given(st.integers(0, 1000), st.integers(2, 3000))
def test_k_of_n_as_a_fraction_is_k(k, n):
    assume(2 * k + 2 <= n)
    assert byzantine_count(k / n, n) == k


@pytest.mark.parametrize(
    ("max_byzantine", "n", "sentence"),
    [
        (30, 20, "max-byzantine=30 of n=20 silos: 2b+2 <= n is needed, so at most 9"),
        (5, 10, "max-byzantine=5 of n=10 silos: 2b+2 <= n is needed, so at most 4"),
        (0.45, 10, "max-byzantine=0.45 of n=10 silos: 2b+2 <= n is needed, so at most 4"),
        (-1, 10, "max-byzantine=-1 of n=10 silos: 2b+2 <= n is needed, so at most 4"),
        (0, 1, "max-byzantine=0 of n=1 silos: 2b+2 <= n is needed, so at most 0"),
        (0.5, 10, "max-byzantine=0.5: a fraction must be in [0, 0.5)"),
        (1.0, 10, "max-byzantine=1.0: a fraction must be in [0, 0.5)"),
        (-0.1, 10, "max-byzantine=-0.1: a fraction must be in [0, 0.5)"),
        (float("nan"), 10, "max-byzantine=nan: a fraction must be in [0, 0.5)"),
    ],
)
def test_a_bound_under_which_the_honest_are_no_sure_majority_is_refused_with_the_numbers(max_byzantine, n, sentence):
    with pytest.raises(ValueError) as refusal:
        byzantine_count(max_byzantine, n)
    assert str(refusal.value) == sentence


def test_the_default_cap_meets_the_paper_s_figures():
    assert default_cap(6) == pytest.approx(0.182, abs=5e-4)
    assert default_cap(120) == pytest.approx(1 / 110) == 12 / (11 * 120)
    assert [default_cap(s) for s in (100, 160, 500)] == [1 / 90, 1 / 150, 1 / 490]
    assert default_cap(99) == pytest.approx(12 / (11 * 99))
    assert default_cap(1) == 1


@props
@given(st.integers(1, 10_000))
def test_the_default_cap_leaves_room_for_weights_to_differ_and_none_for_one_silo_to_rule(s):
    assert default_cap(s) <= 1 and (s == 1 or default_cap(s) > 1 / s)
    assert default_cap(s) <= 1.2 / s or s == 1


def test_a_federation_takes_s_and_t_from_b_unless_they_are_given():
    assert Simplex.for_federation(20, 4) == Simplex(20, 4, 16, default_cap(16))
    assert Simplex.for_federation(20, 0.2) == Simplex(20, 4, 16, default_cap(16))
    assert Simplex.for_federation(20, 4, s=12, t=0.5) == Simplex(20, 4, 12, 0.5)
    assert Simplex.for_federation(20, 4, t=1 / 16) == Simplex(20, 4, 16, 1 / 16)
    assert Simplex.for_federation(20, 4, t=7.0).t == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"s": 21}, "s=21: more carriers than the n=20"),
        ({"s": 12, "t": 0.05}, r"s=12, t=0.05: s\*t = 0.6 < 1"),
        ({"s": -1}, "s=-1"),
        ({"t": -0.1}, "t=-0.1"),
        ({"t": float("nan")}, "t=nan"),
    ],
)
def test_an_infeasible_s_or_t_is_refused_with_the_numbers(options, words):
    with pytest.raises(ValueError, match=words):
        Simplex.for_federation(20, 4, **options)


@props
@given(st.integers(2, 300), st.data())
def test_with_m_present_s_and_t_are_those_of_the_design(n, data):
    b = data.draw(st.integers(0, (n - 2) // 2))
    m = data.draw(st.integers(0, n + 5))  # more than n: late joiners
    whole = Simplex.for_federation(n, b)
    found = whole.among(m)
    if m < 2 * b + 2:
        assert found is None
    else:
        s = m - b
        assert found == Simplex(m, b, s, min(1.0, max(whole.t * whole.s / s, 1 / s)))


@props
@given(st.integers(2, 300), st.data())
def test_an_attacker_already_set_aside_is_not_set_aside_twice(n, data):
    b = data.draw(st.integers(0, (n - 2) // 2))
    unmasked = data.draw(st.integers(0, min(n, b + 3)))
    m = data.draw(st.integers(0, n - unmasked))
    left = max(0, b - unmasked)
    found = Simplex.for_federation(n, b).among(m, unmasked)
    if m < 2 * left + 2:
        assert found is None
    elif unmasked <= b:
        assert found is not None and (found.n, found.b, found.s) == (m, left, m - left)


@props
@given(st.integers(2, 200), st.data())
def test_whoever_is_present_whatever_s_and_t_are_there_is_a_feasible_weight_vector_or_the_model_is_held(n, data):
    b = data.draw(st.integers(0, (n - 2) // 2))
    s = data.draw(st.integers(1, n))
    t = data.draw(st.floats(1 / s, 1) if s > 1 else st.just(1.0))
    m = data.draw(st.integers(0, n + 5))
    found = Simplex.for_federation(n, b, s, t).among(m, data.draw(st.integers(0, n)))
    assume(found is not None)
    check_simplex(m, found.s, found.t)
    weights = project(np.linspace(0, 1, m), found.s, found.t)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert 1 <= found.s <= m and found.t <= 1 and m >= 2 * found.b + 2


def test_the_cap_widens_as_fewer_share_the_weight_so_that_s_times_t_stays():
    whole = Simplex.for_federation(20, 4)
    fewer = whole.among(14)
    assert fewer is not None and (fewer.s, fewer.t) == (10, pytest.approx(whole.t * 1.6))


# -- the score ---------------------------------------------------------------------------------------------------


@props
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 12))
def test_the_score_is_the_paper_s_with_the_product_g_transposed_times_g_tilde_w_formed_explicitly(seed, n, d):
    numbers = np.random.default_rng(seed)
    alpha, beta = numbers.uniform(1e-3, 1), numbers.uniform(1e-4, 1)
    G, trial = numbers.normal(size=(d, n)), numbers.normal(size=(d, n))
    w, losses = numbers.dirichlet(np.ones(n)), numbers.uniform(0, 3, n)
    literal = w + alpha * beta * (G.T @ trial) @ w - beta * losses
    rows, trial_rows = alpha * G.T, alpha * trial.T
    h = score(w, blocks.inner_products(rows, blocks.weighted_sum(w, trial_rows)), losses, alpha, beta)
    np.testing.assert_allclose(h, literal, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_sums_in_blocks_are_the_sums_whatever_the_size_of_a_block(size, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", size)
    numbers = np.random.default_rng(5)
    rows = numbers.normal(size=(4, 11)).astype(np.float32)
    wide, w, z = rows.astype(np.float64), numbers.normal(size=4), numbers.normal(size=11)
    np.testing.assert_allclose(blocks.inner_products(rows, z), wide @ z, rtol=1e-13)
    np.testing.assert_allclose(blocks.weighted_sum(w, rows), w @ wide, rtol=1e-13)
    assert blocks.norm(rows[0]) == pytest.approx(np.linalg.norm(wide[0]), rel=1e-14)
    assert blocks.norm(rows[0][:0]) == 0


def test_float32_rows_are_summed_in_float64():
    rows = np.full((2, 3), 3e38, np.float32)
    assert blocks.norm(rows[0]) == pytest.approx(3e38 * math.sqrt(3), rel=1e-6)
    assert blocks.inner_products(rows, np.full(3, 1e30))[0] == pytest.approx(9e68, rel=1e-6)
    assert blocks.weighted_sum(np.array([1.0, 1.0]), rows)[0] == pytest.approx(6e38, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_float32_rows_multiplied_in_float32_are_off_by_less_than_a_millionth(scale):
    numbers = np.random.default_rng(6)
    rows = numbers.normal(size=(30, 20_000)).astype(np.float32)
    w, z = numbers.dirichlet(np.ones(30)), scale * numbers.normal(size=20_000)
    wide = rows.astype(np.float64)
    found = blocks.single_inner_products(rows, z)
    assert np.abs(found - wide @ z).max() < 1e-6 * np.linalg.norm(wide, axis=1).min() * np.linalg.norm(z)
    summed = blocks.rounded_sum(w, rows)
    assert summed.dtype == np.float32 and np.all(np.abs(summed - w @ wide) <= 1e-6 * (w @ np.abs(wide)))


def test_products_beyond_float32_are_taken_in_float64():
    rows = np.full((2, 3), 3e38, np.float32)
    assert blocks.single_inner_products(rows, np.full(3, 1e30))[0] == pytest.approx(9e68, rel=1e-6)
    assert blocks.rounded_sum(np.array([0.5, 0.5]), rows)[0] == pytest.approx(3e38, rel=1e-6)
    assert blocks.single_inner_products(rows, np.zeros(3)).tolist() == [0, 0]


def test_rows_of_float64_keep_float64_s_digits():
    numbers = np.random.default_rng(7)
    rows, w, z = numbers.normal(size=(4, 11)), numbers.dirichlet(np.ones(4)), numbers.normal(size=11)
    np.testing.assert_allclose(blocks.single_inner_products(rows, z), rows @ z, rtol=1e-13)
    np.testing.assert_allclose(blocks.rounded_sum(w, rows), w @ rows, rtol=1e-13)


# -- z ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("clip", "dtype"), [(3.0, np.float32), (None, np.float32), (3.0, np.float64)])
def test_z_is_the_same_to_the_bit_in_any_order_of_arrival_and_the_clipped_weighted_mean(clip, dtype):
    numbers = np.random.default_rng(8)
    rows = (numbers.normal(size=(40, 500)) * numbers.uniform(0.01, 1, (40, 1))).astype(dtype)
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    w = numbers.dirichlet(np.ones(40))
    found = []
    for order in (np.arange(40), numbers.permutation(40), np.arange(40)[::-1]):
        direction = Direction(500, clip, float(norms.max()), rows.dtype)
        for row in order:
            direction.add(rows[row], norms[row], w[row])
        found.append(direction.over(w.sum()).copy())
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()
    shrink = np.ones(40) if clip is None else np.minimum(1, clip / norms)
    expected = (w * shrink) @ rows.astype(np.float64)
    assert np.linalg.norm(found[0] - expected) < 1e-6 * (clip or norms.max())


@pytest.mark.parametrize("clip", [1e-28, 3.0, 1e28])
def test_z_at_its_largest_stays_within_its_steps(clip):
    """Every silo's update is one number of the length allowed, or far beyond it: the sum is the threshold itself."""
    for length in (clip, 2.0**100):
        update = np.zeros(3, np.float32)
        update[1] = -length
        direction = Direction(3, clip, length, update.dtype)
        for _ in range(300):
            direction.add(update, float(abs(update[1])), 1 / 300)
        z = direction.over(1.0)
        assert z is not None and z.tolist() == [0, pytest.approx(-min(clip, length), rel=1e-6), 0]


def test_a_threshold_of_0_and_nobody_s_weight_give_no_direction():
    direction = Direction(2, 0.0, 1.0, np.dtype(np.float32))
    direction.add(np.ones(2, np.float32), 2**0.5, 1.0)
    assert direction.over(1.0).tolist() == [0, 0]
    assert Direction(2, 1.0, 1.0, np.dtype(np.float32)).over(0.0) is None


# -- BSUM: the linear programme ----------------------------------------------------------------------------------


def feasible(w, s, t):
    return np.all(w >= 0) and np.all(w <= t + 1e-12) and np.count_nonzero(w) <= s and abs(w.sum() - 1) < 1e-12


def optimum(losses, t):
    """The least sum w_i f_i over the capped simplex, by SciPy's HiGHS; inf where there is no point."""
    answer = linprog(losses, A_eq=np.ones((1, len(losses))), b_eq=[1.0], bounds=(0, t))
    return answer.fun if answer.status == 0 else math.inf


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.floats(-10, 10) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=12), st.floats(0, 1))
def test_with_every_silo_allowed_to_carry_it_is_the_linear_programme_s_optimum(losses, share):
    n = len(losses)
    t = 1 / n + share * (1 - 1 / n)
    w = least_loss(np.array(losses), n, t)
    assert feasible(w, n, t)
    assert w @ losses == pytest.approx(optimum(losses, t), abs=1e-7)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.lists(st.floats(0, 5) | st.sampled_from([0.0, 1.0]), min_size=2, max_size=6), st.data())
def test_with_s_silos_allowed_it_is_the_best_over_all_supports(losses, data):
    s = data.draw(st.integers(1, len(losses)))
    t = data.draw(st.floats(1 / s, 1)) if s > 1 else 1.0
    w = least_loss(np.array(losses), s, t)
    best = min(optimum([losses[i] for i in support], t) for support in itertools.combinations(range(len(losses)), s))
    assert feasible(w, s, t)
    assert w @ losses == pytest.approx(best, abs=1e-7)


def test_the_best_silos_take_t_each_and_of_equal_losses_the_first_comes_first():
    assert least_loss(np.array([3.0, 1.0, 2.0, 1.0]), 3, 0.4).tolist() == pytest.approx([0, 0.4, 0.2, 0.4])
    assert least_loss(np.full(5, 2.0), 3, 0.5).tolist() == [0.5, 0.5, 0, 0, 0]
    assert least_loss(np.array([9.0]), 1, 1.0).tolist() == [1.0]
    many = np.tile([1.0, 0.0], 200)  # enough for a sort that is not stable to show it
    assert np.flatnonzero(least_loss(many, 100, 0.01)).tolist() == list(range(1, 200, 2))


def test_rounding_makes_nobody_a_carrier():
    """A weight of 1e-15 would be no weight and yet have its silo asked for updates and its buffers counted."""
    for s in range(1, 400):
        for t in {default_cap(s), 1 / s, 1 / max(1, s - 1)}:
            w = least_loss(np.arange(s + 5.0), s, t)
            assert feasible(w, s, t) and w[w > 0].min() > 1e-9
            assert np.count_nonzero(w) == math.ceil(1 / t - 1e-9)


def test_an_infeasible_programme_is_refused():
    with pytest.raises(ValueError, match=r"s\*t = 0.6 < 1"):
        least_loss(np.ones(5), 3, 0.2)


# -- the schedule ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "learned"),
    [
        (Schedule(3, 0), [1, 2, 3]),
        (Schedule(2, 3), [1, 2, 5, 8, 11]),
        (Schedule(2, 1), list(range(1, 13))),
        (Schedule(-1, 0), list(range(1, 13))),
        (Schedule(0, 4), [4, 8, 12]),
        (Schedule(0, 0), []),
        (Schedule(4, 0, 2), [3, 4]),
        (Schedule(3, 4, 1), [2, 3, 7, 11]),
        (Schedule(-1, 0, 9), [10, 11, 12]),
    ],
)
def test_weights_are_learned_in_the_first_rounds_and_then_in_one_of_so_many(schedule, learned):
    assert [r for r in range(1, 13) if schedule.learns(r)] == learned
    assert [schedule.last(r) for r in range(13)] == [max([0, *(x for x in learned if x <= r)]) for r in range(13)]


def test_where_b_is_not_known_s_is_lowered_in_equal_steps_over_the_weight_rounds():
    assert [Schedule(5).carriers(r, 10, 6) for r in range(1, 8)] == [10, 9, 8, 7, 6, 6, 6]
    assert [Schedule(4).carriers(r, 10, 6) for r in range(1, 5)] == [10, 9, 8, 6]
    assert [Schedule(2).carriers(r, 10, 6) for r in (1, 2, 3)] == [10, 6, 6]
    assert [Schedule(5, 0, 2).carriers(r, 10, 6) for r in range(1, 8)] == [10, 10, 10, 8, 6, 6, 6]


@pytest.mark.parametrize(("rounds", "warm"), [(3, 3), (3, 4), (3, -1), (0, 1)])
def test_a_warm_start_leaves_a_weight_round(rounds, warm):
    with pytest.raises(ValueError, match=f"warm_rounds={warm}"):
        Schedule(rounds, 0, warm)


# -- standing ----------------------------------------------------------------------------------------------------


def after(*rounds, schedule=None):
    """Weights after rounds given as (weights by silo, who dodged); every round a weight round unless said otherwise."""
    weights = Standing(schedule or Schedule(-1))
    for number, (learned, dodged) in enumerate(rounds, start=1):
        weights.forfeit(dodged)
        weights.learn(list(learned), np.array(list(learned.values())), number)
    return weights


def test_before_anything_is_learned_all_present_weigh_alike_and_nothing_is_missing():
    weights = Standing(Schedule())
    assert weights.over(["a", "b", "c", "d"]).tolist() == [0.25] * 4
    assert weights.missing([]) == 0 and weights.missing(["a"]) == 0


def test_learned_weights_are_kept_silo_by_silo_in_any_order():
    weights = after(({"a": 0.5, "b": 0.3, "c": 0.2}, []))
    assert weights.over(["c", "a", "b"]).tolist() == pytest.approx([0.2, 0.5, 0.3])


def test_an_absent_silo_keeps_its_standing_and_the_present_share_its_weight_meanwhile():
    weights = after(({"a": 0.5, "b": 0.3, "c": 0.2}, []), ({"a": 0.6, "b": 0.4}, []))
    assert weights.over(["a", "b"]).tolist() == pytest.approx([0.6, 0.4])
    assert weights.over(["a", "b", "c"]).tolist() == pytest.approx([0.5, 1 / 3, 1 / 6])


def test_a_silo_that_dodged_the_score_has_no_weight_until_it_is_scored_again():
    weights = after(({"a": 0.5, "b": 0.3, "c": 0.2}, []), ({"a": 0.6, "b": 0.4}, ["c"]))
    assert weights.over(["a", "b", "c"]).tolist() == pytest.approx([0.6, 0.4, 0])
    weights.learn(["a", "b"], np.array([0.5, 0.5]), 3)  # absent this time: what was lost stays lost
    assert weights.over(["a", "b", "c"]).tolist() == pytest.approx([0.5, 0.5, 0])
    weights.learn(["a", "b", "c"], np.array([0.4, 0.3, 0.3]), 4)
    assert weights.over(["a", "b", "c"]).tolist() == pytest.approx([0.4, 0.3, 0.3])


def test_a_late_joiner_has_no_weight_until_it_is_scored():
    weights = after(({"a": 0.7, "b": 0.3}, []))
    assert weights.over(["a", "b", "new"]).tolist() == pytest.approx([0.7, 0.3, 0])
    weights.learn(["a", "b", "new"], np.array([0.4, 0.3, 0.3]), 2)
    assert weights.over(["new"]).tolist() == [1]


def test_where_nobody_present_has_any_weight_all_start_alike():
    assert after(({"a": 0.7, "b": 0.3}, [])).over(["new", "newer"]).tolist() == [0.5, 0.5]


def test_only_silos_scored_in_the_last_weight_round_carry_weight_into_the_held_phase():
    rounds = [({"a": 0.5, "b": 0.3, "c": 0.2}, []), ({"a": 0.6, "b": 0.4}, [])]
    assert after(*rounds, schedule=Schedule(3)).over(["a", "b", "c"])[2] > 0
    held = after(*rounds, schedule=Schedule(2))
    assert held.over(["a", "b", "c"]).tolist() == pytest.approx([0.6, 0.4, 0])
    assert not held.learns(3)


def test_the_same_holds_after_each_refresh():
    weights = after(({"a": 0.5, "b": 0.5}, []), schedule=Schedule(1, 2))
    assert [weights.learns(r) for r in (2, 3)] == [False, True]
    weights.learn(["a", "new"], np.array([0.5, 0.5]), 3)
    assert weights.over(["a", "b", "new"]).tolist() == pytest.approx([0.5, 0, 0.5])


def test_a_weight_round_in_which_the_model_was_held_is_made_up_for():
    """Else attackers silent in the weight rounds, until too few are left to learn from, come back to equal weights."""
    never = Standing(Schedule(2))
    assert [never.learns(r) for r in (1, 2, 3, 50)] == [True] * 4
    weights = after(({"a": 0.5, "b": 0.3, "c": 0.2}, []), schedule=Schedule(2))
    assert weights.learns(2) and weights.learns(3)  # round 2 brought too few replies
    weights.learn(["a", "b"], np.array([0.6, 0.4]), 3)
    assert not weights.learns(4) and weights.over(["a", "b", "c"]).tolist() == pytest.approx([0.6, 0.4, 0])
    refreshed = after(({"a": 1.0}, []), schedule=Schedule(1, 3))
    assert [refreshed.learns(r) for r in (2, 3, 4, 5)] == [False, False, True, True]


def test_a_schedule_that_never_learns_is_made_up_for_by_nothing():
    assert not any(Standing(Schedule(0, 0)).learns(r) for r in range(1, 5))


def test_the_share_of_the_weight_whose_silos_are_missing_is_known():
    weights = after(({"a": 0.5, "b": 0.3, "c": 0.2, "d": 0.0}, []))
    assert weights.missing(["a", "b", "c", "d"]) == pytest.approx(0)
    assert weights.missing(["a", "b", "c"]) == pytest.approx(0)
    assert weights.missing(["a"]) == pytest.approx(0.5)
    assert weights.missing(["d", "new"]) == 1
    assert weights.missing([]) == 1


def test_a_dodger_s_lost_weight_is_not_missing():
    assert after(({"a": 0.5, "b": 0.5}, []), ({"a": 1.0}, ["b"])).missing(["a"]) == 0


def test_learning_again_forgets_all_and_makes_the_next_round_a_weight_round_once():
    weights = after(({"a": 0.9, "b": 0.1}, []), schedule=Schedule(1))
    assert not weights.learns(2)
    weights.relearn()
    assert weights.learns(3) and weights.over(["a", "b"]).tolist() == [0.5, 0.5] and weights.missing([]) == 0
    weights.learn(["a", "b"], np.array([0.3, 0.7]), 3)
    assert not weights.learns(4) and weights.over(["a", "b"]).tolist() == pytest.approx([0.3, 0.7])


def test_the_weights_handed_out_are_the_caller_s_own():
    weights = after(({"a": 0.7, "b": 0.3}, []))
    weights.over(["a", "b"])[:] = 99
    assert weights.over(["a", "b"]).tolist() == pytest.approx([0.7, 0.3])


@props
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 1), min_size=1),
            st.sets(st.sampled_from("abcdef")),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sets(st.sampled_from("abcdefg"), min_size=1),
)
def test_weights_sum_to_one_over_whoever_is_present_whatever_happened_before(rounds, present):
    rounds = [
        ({k: v / sum(learned.values()) for k, v in learned.items()}, dodged - learned.keys())
        for learned, dodged in rounds
    ]
    weights, silos = after(*rounds), sorted(present)
    w = weights.over(silos)
    assert w.sum() == pytest.approx(1, abs=1e-12) and np.all(w >= 0)
    assert -1e-12 <= weights.missing(silos) <= 1
    learned, dodged = rounds[-1]
    if any(silo in learned for silo in silos):
        assert all(w[i] == 0 for i, silo in enumerate(silos) if silo in dodged or silo == "g")


@pytest.mark.parametrize("bound", [0, 1, 3, 0.0, 0.1, 0.2, 0.25, 0.3, 0.4, 0.45])
def test_from_the_fewest_silos_on_every_number_of_them_is_taken_and_one_less_is_not(bound):
    fewest = fewest_silos(bound)
    assert all(byzantine_count(bound, n) >= 0 for n in range(fewest, fewest + 200))
    with pytest.raises(ValueError, match="2b\\+2 <= n"):
        byzantine_count(bound, fewest - 1)
