"""Distances between updates: right under large offsets, beside huge attackers and late in training."""

import numpy as np
import pytest
from references import rules as reference

from fedlaw_flwr.core.distances import squared_distances, squared_distances_to
from fedlaw_flwr.rules.krum import krum_scores


def by_differences(updates):
    rows = reference.rows_of(updates)
    return np.array([[reference.squared_distance(x, y) for y in rows] for x in rows])


def assert_right(updates):
    expected = by_differences(updates)
    np.testing.assert_allclose(squared_distances(updates), expected, rtol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agree_with_differences_row_by_row(dtype):
    assert_right(np.random.default_rng(0).normal(size=(9, 33)).astype(dtype))


def test_an_offset_common_to_all_rows_costs_no_digits():
    random = np.random.default_rng(1)
    assert_right(random.normal(size=(8, 20)) * 1e-3 + 1e6)
    assert_right((random.normal(size=(8, 20)) + 1e6).astype(np.float32))


@pytest.mark.parametrize("place", [0, 4, 9])
@pytest.mark.parametrize("length", [1e4, 1e10, 1e30])
def test_attackers_however_far_do_not_blur_the_distances_of_the_rest(place, length):
    random = np.random.default_rng(2)
    updates = random.normal(size=(10, 12)).astype(np.float32)
    updates[place] = length * random.normal(size=12)
    updates[(place + 3) % 10] = updates[place]
    updates[(place + 5) % 10] = updates[place] * np.float32(1.0001)
    assert_right(updates)


def test_scales_within_scales_are_each_resolved():
    random = np.random.default_rng(3)
    assert_right(np.vstack([random.normal(size=(4, 6)) + 10.0 ** (5 * k) for k in range(4)]))


def test_identical_rows_are_exactly_zero_apart_and_whole_numbers_exact():
    row = np.random.default_rng(4).normal(size=500).astype(np.float32)
    assert not squared_distances(np.tile(row, (5, 1))).any()
    mixed = np.vstack([row, np.ones_like(row), row, row])
    assert squared_distances(mixed)[0, 2] == squared_distances(mixed)[2, 3] == 0
    assert squared_distances(np.array([[0.0, 0], [3, 4], [6, 8]])).tolist() == [[0, 25, 100], [25, 0, 25], [100, 25, 0]]


def test_symmetric_and_independent_of_how_columns_are_cut(monkeypatch):
    updates = np.random.default_rng(5).normal(size=(7, 101))
    whole = squared_distances(updates)
    assert (whole == whole.T).all()
    monkeypatch.setattr("fedlaw_flwr.core.blocks._BLOCK", 21)  # three columns a block
    np.testing.assert_allclose(squared_distances(updates), whole, rtol=1e-13)


def test_distances_to_a_point_are_taken_in_float64():
    updates = (np.random.default_rng(6).normal(size=(5, 40)) + 1e5).astype(np.float32)
    point = np.full(40, 1e5 + 1 / 3)
    expected = [reference.squared_distance(row, point) for row in reference.rows_of(updates)]
    np.testing.assert_allclose(squared_distances_to(point, updates), expected, rtol=1e-13)


def test_late_in_training_weights_in_float32_pick_attackers_and_updates_pick_the_honest():
    """Updates 3e-5 of the weights' size; attackers three times as long. Twenty draws of eight honest, four not."""
    n, f, d, tiny, draws = 12, 4, 2000, 3e-5, 20
    fooled_by_weights = fooled_by_updates = 0
    for draw in range(draws):
        random = np.random.default_rng(draw)
        theta = random.normal(size=d).astype(np.float32)
        honest = 0.5 * random.normal(size=d) + random.normal(size=(n - f, d))
        order = random.permutation(n)
        delta = tiny * np.vstack([honest, 3 * random.normal(size=(f, d))])[order]
        attackers = order >= n - f
        psi = theta - delta.astype(np.float32)

        gram = psi @ psi.T
        norms = np.einsum("ij,ij->i", psi, psi)
        in_float32 = np.maximum(norms[:, None] + norms - 2 * gram, 0)
        np.fill_diagonal(in_float32, np.inf)
        scores = np.sort(in_float32, axis=1)[:, : n - f - 2].sum(axis=1)
        fooled_by_weights += attackers[np.argmin(scores)]
        fooled_by_updates += attackers[np.argmin(krum_scores(theta - psi, f))]
    assert fooled_by_updates == 0
    assert fooled_by_weights >= draws // 5  # a blind draw would err in a third
