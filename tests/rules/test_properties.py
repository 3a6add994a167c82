"""What holds for a rule whatever the updates: symmetries, bounds, and hands off its input."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlaw_flwr.rules import RULES, Aggregator, RuleSettings
from fedlaw_flwr.rules.bucketing import bucketing
from fedlaw_flwr.rules.cclip import cclip
from fedlaw_flwr.rules.nnm import nnm

reproducible = settings(derandomize=True, deadline=None, max_examples=25)
NAMES = list(RULES)
# CClip's centre stays where it was when the updates move, so it is the one rule left out below.
MOVES_ALONG = [name for name in NAMES if name != "cclip"]
WEIGHTED = ["fedavg", "krum", "multi_krum", "rfa", "huber", "caf", "ideal"]


@st.composite
def problems(draw):
    """(updates, honest, f): normal draws, so no two scores tie, within every rule's condition, in buckets of 2 too.

    f is 0 or 3: at 1 and 2 the last picks of Bulyan go by one neighbour, and the nearest two then always tie.
    """
    f = draw(st.sampled_from([0, 3]))
    n = 2 * (4 * f + 3) + draw(st.integers(2, 6))
    d = draw(st.integers(2, 7))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    updates = random.normal(size=(n, d)) * draw(st.sampled_from([1e-4, 1.0, 1e3]))
    honest = np.arange(n) >= f
    updates[:f] *= 20
    return updates, honest, f


def run(name, updates, honest, f, **numbers):
    size = float(np.abs(updates).max())  # thresholds that bite at any scale
    chosen = RuleSettings(f=f, cclip_tau=size, huber_threshold=0.3 * size, huber_iterations=2000, **numbers)
    return Aggregator(name, chosen)(updates, 1, honest)


@pytest.mark.parametrize("name", NAMES)
@reproducible
@given(problem=problems(), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_rows_does_not_matter(name, problem, seed):
    updates, honest, f = problem
    order = np.random.default_rng(seed).permutation(len(updates))
    found, shuffled = run(name, updates, honest, f), run(name, updates[order], honest[order], f)
    size = np.abs(updates).max()
    np.testing.assert_allclose(shuffled.update, found.update, atol=1e-9 * size)
    if found.weights is not None:
        np.testing.assert_allclose(shuffled.weights, found.weights[order], atol=1e-9)
    if found.kept is not None:
        np.testing.assert_array_equal(shuffled.kept, found.kept[order])


@pytest.mark.parametrize("name", MOVES_ALONG)
@reproducible
@given(problem=problems(), seed=st.integers(0, 2**32 - 1))
def test_moving_all_updates_moves_the_result_alike(name, problem, seed):
    updates, honest, f = problem
    size = np.abs(updates).max()
    shift = size * np.random.default_rng(seed).normal(size=updates.shape[1])
    chosen = RuleSettings(f=f, huber_threshold=0.3 * size, huber_iterations=2000)
    found = Aggregator(name, chosen)(updates, 1, honest).update
    moved = Aggregator(name, chosen)(updates + shift, 1, honest).update
    np.testing.assert_allclose(moved, found + shift, atol=1e-8 * size)


@reproducible
@given(problem=problems(), seed=st.integers(0, 2**32 - 1))
def test_centered_clipping_moves_along_only_if_its_centre_does(problem, seed):
    updates, _, _ = problem
    size = np.abs(updates).max()
    shift = size * (1 + np.random.default_rng(seed).random(updates.shape[1]))
    found = cclip(updates, np.zeros(updates.shape[1]), size)
    np.testing.assert_allclose(cclip(updates + shift, shift, size), found + shift, atol=1e-9 * size)
    assert np.abs(cclip(updates + 100 * shift, np.zeros(updates.shape[1]), size) - found).max() < 3 * size


@pytest.mark.parametrize("name", NAMES)
@reproducible
@given(problem=problems(), factor=st.sampled_from([0.01, 3.0, 1e5]))
def test_updates_and_alpha_scaled_alike_scale_the_result(name, problem, factor):
    updates, honest, f = problem
    chosen = RuleSettings(f=f, cclip_tau=0.7, huber_threshold=0.4, rfa_nu=0.05, huber_iterations=2000)
    found = Aggregator(name, chosen)(updates, 1, honest)
    scaled = Aggregator(name, chosen, scale=factor)(updates * factor, 1, honest)
    np.testing.assert_allclose(scaled.update, found.update * factor, atol=1e-6 * factor * np.abs(updates).max())


@pytest.mark.parametrize("name", NAMES)
@reproducible
@given(problem=problems())
def test_no_coordinate_leaves_the_range_of_the_updates(name, problem):
    updates, honest, f = problem
    update = run(name, updates, honest, f).update
    slack = 1e-9 * np.abs(updates).max()
    low = np.minimum(updates.min(axis=0), 0) if name == "cclip" else updates.min(axis=0)
    high = np.maximum(updates.max(axis=0), 0) if name == "cclip" else updates.max(axis=0)
    assert (update >= low - slack).all() and (update <= high + slack).all()


@pytest.mark.parametrize("mixing", [{}, {"bucket_size": 2}, {"nnm": True}, {"bucket_size": 2, "nnm": True}], ids=str)
@pytest.mark.parametrize("name", WEIGHTED)
@reproducible
@given(problem=problems())
def test_weights_say_exactly_how_the_result_came_about(name, mixing, problem):
    updates, honest, f = problem
    if name == "ideal" and mixing:
        return
    found = run(name, updates, honest, f, **mixing)
    assert found.weights.shape == (len(updates),)
    assert found.weights.min() >= 0 and found.weights.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found.weights @ updates, found.update, atol=1e-9 * np.abs(updates).max())
    if found.kept is not None:
        np.testing.assert_array_equal(found.kept, found.weights > 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mixing", [{}, {"bucket_size": 2}, {"nnm": True}], ids=str)
def test_neither_changes_nor_aliases_its_input(name, dtype, mixing):
    if name == "ideal" and mixing:
        return
    updates = np.random.default_rng(0).normal(size=(14, 5)).astype(dtype)
    honest = np.ones(14, dtype=bool)
    before = updates.copy()
    updates.flags.writeable = False
    found = run(name, updates, honest, 1, **mixing)
    assert found.update.dtype == dtype
    assert not np.shares_memory(found.update, updates)
    if found.kept is not None:
        assert not np.shares_memory(found.kept, honest)
    found.update[:] = 7
    np.testing.assert_array_equal(updates, before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("bad", "said"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_a_row_that_is_not_finite_is_refused_by_name(name, dtype, bad, said):
    updates = np.ones((12, 4), dtype)
    updates[7, 2] = bad
    with pytest.raises(ValueError, match=f"row 7 holds {said} at coordinate 2"):
        Aggregator(name, RuleSettings(f=1))(updates, 1, np.ones(12, dtype=bool))


@pytest.mark.parametrize("name", NAMES)
def test_columns_are_cut_into_blocks_without_a_seam(name, monkeypatch):
    updates = np.random.default_rng(1).normal(size=(11, 50))
    honest = np.arange(11) > 1
    whole = run(name, updates, honest, 2)
    monkeypatch.setattr("fedlaw_flwr.core.blocks._BLOCK", 77)  # seven columns of eleven rows
    np.testing.assert_allclose(run(name, updates, honest, 2).update, whole.update, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_no_rule_makes_a_second_matrix(name):
    updates = np.random.default_rng(4).normal(size=(24, 100_000)).astype(np.float32)
    rule, honest = Aggregator(name, RuleSettings(f=2)), np.ones(24, dtype=bool)
    tracemalloc.start()
    try:
        rule(updates, 1, honest)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.6 * updates.nbytes  # a float64 copy would be twice the matrix; vectors and blocks are allowed


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", NAMES)
def test_memory_layout_does_not_matter(name, order):
    wide = np.random.default_rng(2).normal(size=(11, 40))
    honest = np.arange(11) > 1
    found = run(name, np.array(wide[:, ::2], order=order), honest, 2).update
    np.testing.assert_allclose(run(name, wide[:, ::2], honest, 2).update, found, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("fedavg", "cclip", "rfa")])
def test_two_attackers_of_eleven_at_1e8_do_not_move_the_result_away_from_the_honest(name):
    updates = np.random.default_rng(3).normal(size=(11, 6)).astype(np.float32)
    updates[[2, 5]] = 1e8
    honest = np.abs(updates).max(axis=1) < 1e3
    assert np.abs(Aggregator(name, RuleSettings(f=2))(updates, 1, honest).update).max() < 5


@reproducible
@given(problem=problems(), size=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_equal_buckets_keep_the_mean(problem, size, seed):
    updates, _, _ = problem
    whole = updates[: len(updates) // size * size]
    found = bucketing(whole, size, np.random.default_rng(seed))
    np.testing.assert_allclose(found.mean(axis=0), whole.mean(axis=0), atol=1e-12 * np.abs(updates).max())


@reproducible
@given(problem=problems())
def test_mixing_draws_the_honest_together(problem):
    updates, honest, f = problem
    mixed = nnm(updates, f)
    spread = [((x[honest] - x[honest].mean(axis=0)) ** 2).sum() for x in (updates, mixed)]
    assert spread[1] <= spread[0] * (1 + 1e-9)
