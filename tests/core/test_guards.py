"""Guards: the clip threshold is no higher than an honest norm; of losses, only what is far too low is raised."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation

from fedlaw_flwr.core.clipping import clip_threshold
from fedlaw_flwr.core.losses import raise_low_losses

props = settings(derandomize=True, deadline=None, max_examples=200)
norm = st.floats(0, 1e38) | st.sampled_from([0.0, 1e-30, 1.0, 3e38])
loss = st.floats(-1e3, 1e3) | st.floats(0, 3)


@props
@given(st.lists(norm, min_size=2, max_size=20), st.data())
def test_the_threshold_never_exceeds_the_largest_honest_norm_whoever_the_honest_are(norms, data):
    byzantine = data.draw(st.integers(0, len(norms) - 1))
    attackers = data.draw(st.sets(st.integers(0, len(norms) - 1), max_size=byzantine))
    honest = [value for i, value in enumerate(norms) if i not in attackers]
    assert clip_threshold(np.array(norms), byzantine) <= max(honest)


@props
@given(st.lists(norm, min_size=2, max_size=20), st.data())
def test_at_most_b_updates_are_clipped(norms, data):
    byzantine = data.draw(st.integers(0, len(norms) - 1))
    assert np.sum(np.array(norms) > clip_threshold(np.array(norms), byzantine)) <= byzantine


def test_the_threshold_is_the_m_minus_b_th_smallest_norm():
    norms = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    assert [clip_threshold(norms, b) for b in range(5)] == [5, 4, 3, 2, 1]
    assert norms.tolist() == [5, 1, 4, 2, 3]


def test_tiny_updates_of_attackers_do_clip_honest_silos_which_is_why_the_cost_is_logged():
    honest, attackers = [1.0, 2.0, 3.0, 4.0], [0.0, 0.0]
    assert clip_threshold(np.array(honest + attackers), 2) == 2.0


@pytest.mark.parametrize(("m", "byzantine"), [(3, 3), (3, 4), (3, -1), (0, 0)])
def test_no_honest_update_at_all_is_refused_with_the_numbers(m, byzantine):
    with pytest.raises(ValueError, match=f"b'={byzantine} of m={m} updates"):
        clip_threshold(np.ones(m), byzantine)


# -- losses ------------------------------------------------------------------------------------------------------


def fence_of(losses):
    """The fence by SciPy's MAD, which is scaled to the standard deviation of a normal sample."""
    median = np.median(losses)
    return median - 3 * max(median_abs_deviation(losses, scale="normal"), abs(median) / 20)


@props
@given(st.lists(loss, min_size=8, max_size=30))
@example([0.0] * 8)
@example([1.0] * 7 + [0.0])
def test_losses_below_the_fence_are_raised_to_it_and_all_others_stay(losses):
    values = np.array(losses)
    fence = fence_of(values)
    assume(np.all(np.abs(values - fence) > 1e-3 * abs(fence)) or fence == 0)  # SciPy's MAD has the digits 1.4826022...
    raised, low = raise_low_losses(values)
    np.testing.assert_array_equal(low, values < fence)
    np.testing.assert_array_equal(raised[~low], values[~low])
    np.testing.assert_allclose(raised[low], fence, rtol=1e-4, atol=1e-2)
    assert not np.shares_memory(raised, values) and values.tolist() == losses


@props
@given(st.lists(st.floats(0, 1e3), min_size=8, max_size=30))
def test_fewer_than_half_can_be_raised_and_never_up_to_the_median(losses):
    raised, low = raise_low_losses(np.array(losses))
    assert low.sum() < len(losses) / 2
    assert np.all(raised >= np.array(losses))
    assert np.all(raised[low] <= 0.85 * np.median(losses))  # three twentieths below it at the least


@props
@given(st.lists(st.floats(0.5, 3), min_size=8, max_size=20), st.floats(-1e6, 0.9), st.floats(-1e6, 0.9))
def test_a_silo_gains_nothing_by_reporting_still_less_than_the_fence(honest, one, other):
    answers = [raise_low_losses(np.array([lie, *honest])) for lie in (one, other)]
    assume(all(low[0] for _, low in answers))
    np.testing.assert_array_equal(answers[0][0], answers[1][0])


@props
@given(st.integers(3, 8), st.data())
def test_a_minority_cannot_have_an_honest_loss_raised_above_the_honest_median_range(b, data):
    """With at most b of 2b + 2 hostile, what is raised is raised to less than the largest honest loss."""
    honest = data.draw(st.lists(st.floats(0, 10), min_size=b + 2, max_size=b + 2))
    hostile = data.draw(st.lists(st.floats(0, 1e300), min_size=b, max_size=b))
    raised, low = raise_low_losses(np.array(honest + hostile))
    assert np.all(raised[: b + 2] <= max(honest))
    assert np.all(raised[low] <= max(honest))


def test_the_filter_is_one_sided_a_high_loss_stays_as_it_is():
    losses = np.array([1.0] * 9 + [1e6])
    raised, low = raise_low_losses(losses)
    assert not low.any() and raised.tolist() == losses.tolist()


def test_below_eight_losses_nothing_is_raised_and_from_eight_on_it_is():
    seven, eight = np.array([1.0] * 6 + [0.0]), np.array([1.0] * 7 + [0.0])
    assert raise_low_losses(seven)[0].tolist() == seven.tolist() and not raise_low_losses(seven)[1].any()
    raised, low = raise_low_losses(eight)
    assert low.tolist() == [False] * 7 + [True] and raised[-1] == pytest.approx(0.85)
    assert not np.shares_memory(raise_low_losses(seven)[0], seven)


def test_losses_that_nearly_agree_are_left_alone_by_the_floor_on_the_spread():
    losses = np.array([1.0] * 9 + [0.86])
    assert not raise_low_losses(losses)[1].any()  # without the floor the MAD is 0 and anything below 1 is "far"
    assert raise_low_losses(np.array([1.0] * 9 + [0.84]))[1].tolist() == [False] * 9 + [True]


def test_negative_losses_have_a_fence_below_them():
    losses = np.array([-1.0] * 9 + [-2.0])
    raised, low = raise_low_losses(losses)
    assert low.tolist() == [False] * 9 + [True] and raised[-1] == pytest.approx(-1.15)


def test_no_losses_at_all_are_no_trouble():
    raised, low = raise_low_losses(np.array([]))
    assert raised.size == low.size == 0
