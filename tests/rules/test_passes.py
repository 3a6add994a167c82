"""The passes in float32 against the same sums in float64 and in plain Python, at every scale an attacker may choose."""

import numpy as np
import pytest
from references import rules as reference

from fedlaw_flwr.rules.cclip import cclip
from fedlaw_flwr.rules.fedavg import mean
from fedlaw_flwr.rules.matrix import mix
from fedlaw_flwr.rules.passes import distances_to, mean_and_distances, weighted_rows
from fedlaw_flwr.rules.rfa import rfa
from fedlaw_flwr.rules.trimmed_mean import trimmed_mean

N, D = 40, 3000


def rows(offset=0.0, spread=1.0):
    return (np.random.default_rng(0).normal(size=(N, D)) * spread + offset).astype(np.float32)


def exactly(weights, updates):
    """z and the squared distances to it in float64, the offset of the first row taken off first."""
    away = updates.astype(np.float64) - updates[0]
    z = weights @ away
    return z + updates[0], ((away - z) ** 2).sum(axis=1)


@pytest.fixture
def weights():
    drawn = np.random.default_rng(1).random(N)
    return drawn / drawn.sum()


@pytest.mark.parametrize(("offset", "spread"), [(0, 1), (1e6, 1), (0, 1e-12), (1e3, 1e-3), (0, 1e12), (-3e4, 1e-2)])
def test_distances_to_a_weighted_mean_keep_six_digits_at_every_offset_and_scale(weights, offset, spread):
    updates = rows(offset, spread)
    z, squared = mean_and_distances(weights, updates)
    expected, distances = exactly(weights, updates)
    np.testing.assert_allclose(squared, distances, rtol=3e-6)
    assert np.linalg.norm(z - expected) <= 1e-6 * np.sqrt(distances.mean())


@pytest.mark.parametrize("length", [1e4, 1e10, 1e18, 1e30])
def test_attackers_however_far_leave_the_distances_of_the_rest_to_a_point_among_them(weights, length):
    updates = rows()
    updates[3] *= length
    weights[3] = 1e-5 / length
    weights /= weights.sum()
    z, squared = mean_and_distances(weights, updates)
    expected, distances = exactly(weights, updates)
    np.testing.assert_allclose(squared, distances, rtol=1e-5)
    assert np.linalg.norm(z - expected) <= 1e-6 * np.sqrt(np.median(distances))


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e20, 1e36])
def test_scales_whose_squares_float32_cannot_hold_are_taken_in_float64(weights, scale):
    updates = rows(0, scale)
    expected, distances = exactly(weights, updates)
    z, squared = mean_and_distances(weights, updates)
    np.testing.assert_allclose(squared, distances, rtol=1e-10)
    np.testing.assert_allclose(distances_to(expected, updates), distances, rtol=1e-10)
    np.testing.assert_allclose(z, expected, atol=1e-7 * scale)


def test_a_row_that_is_the_point_is_exactly_at_distance_0(weights):
    updates = np.tile(rows(5.0)[0], (N, 1))
    assert not distances_to(updates[0].astype(np.float64), updates).any()
    np.testing.assert_allclose(mean_and_distances(weights, updates)[1], 0, atol=1e-20)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_distances_to_a_point_use_the_digits_of_it_that_float32_lacks(offset):
    updates = rows(offset, 0.01)
    point = np.full(D, offset + 1 / 3000)
    expected = ((updates.astype(np.float64) - point) ** 2).sum(axis=1)
    np.testing.assert_allclose(distances_to(point, updates), expected, rtol=3e-6)


def test_a_weighted_sum_in_groups_of_16_rows_is_right_to_a_few_roundings(weights):
    updates = rows(1.0)
    expected = weights @ updates.astype(np.float64)
    assert np.abs(weighted_rows(weights, updates) - expected).max() <= 5e-7 * np.abs(updates).max()
    assert np.abs(mean(updates) - updates.mean(axis=0, dtype=np.float64)).max() <= 5e-7 * np.abs(updates).max()


def test_a_weight_that_float32_cannot_hold_still_counts():
    updates = np.array([[1.0], [1e38]], dtype=np.float32)
    np.testing.assert_allclose(weighted_rows(np.array([1.0, 1e-38]), updates), [2.0], rtol=1e-7)


def test_one_row_with_all_the_weight_is_that_row_to_the_bit():
    updates = rows(1e3)
    chosen = (np.arange(N) == 17).astype(np.float64)
    np.testing.assert_array_equal(weighted_rows(chosen, updates), updates[17])


@pytest.mark.parametrize("largest", [1e20, 3e38])
def test_rules_stand_up_to_the_largest_float32(largest):
    updates = rows()
    updates[:5] = largest
    assert np.isfinite(mean(updates)).all()
    assert np.isfinite(rfa(updates)).all()
    assert np.abs(cclip(updates, np.zeros(D), 1.0)).max() < 1
    assert np.abs(trimmed_mean(updates, 5)).max() < 5
    same = np.full((N, 2), largest, dtype=np.float32)
    np.testing.assert_allclose(trimmed_mean(same, 5), largest, rtol=1e-6)


def test_the_steps_of_rfa_and_cclip_in_float32_end_where_plain_float64_does():
    updates = rows(0.1)[:, :200]
    updates[:8] += 30
    np.testing.assert_allclose(rfa(updates, 1e-6, 4), reference.rfa(updates, 1e-6, 4), rtol=1e-5, atol=1e-6)
    center = updates.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(cclip(updates, center, 3.0, 3), reference.cclip(updates, center, 3.0, 3), atol=1e-6)


@pytest.mark.parametrize("size", [2, 20])
def test_mixing_few_rows_or_many_gives_the_same_means(size):
    updates = rows(1.0)[:, :50]
    mixing = np.kron(np.eye(N // size), np.full((1, size), 1 / size))
    expected = updates.astype(np.float64).reshape(N // size, size, -1).mean(axis=1)
    np.testing.assert_allclose(mix(mixing, updates), expected, atol=1e-6)
