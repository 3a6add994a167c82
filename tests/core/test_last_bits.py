"""The last bits of what weights and models are made of: the same on any number of cores, and at any place in memory."""

from itertools import pairwise

import numpy as np
import pytest
from last_bits import outcomes
from threadpoolctl import threadpool_info, threadpool_limits

from fedlaw_flwr.core import blocks
from fedlaw_flwr.core.one_thread import one_blas_thread
from fedlaw_flwr.core.support import peer_support

RNG = np.random.default_rng(11)
SHAPES = [(3, 7), (3, 40_001), (200, 2_001)]


def matrix(m, d, dtype=np.float32):
    return RNG.normal(size=(m, d)).astype(dtype)


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_products_and_norms_do_not_depend_on_threads_or_places(shape, dtype):
    rows, z, w = matrix(*shape, dtype), RNG.normal(size=shape[1]).astype(dtype), RNG.dirichlet(np.ones(shape[0]))
    other = matrix(*shape, dtype)
    for compute in (
        blocks.inner_products,
        blocks.single_inner_products,
        lambda rows, z: blocks.weighted_sum(w, rows),
        lambda rows, z: blocks.rounded_sum(w, rows),
        lambda rows, z: [blocks.norm(row) for row in rows],
        lambda rows, z: [blocks.subtract(z, [(slice(0, z.size), row)], np.empty_like(row)) for row in rows],
        lambda rows, z: [blocks.scaled(row, 9.0, np.empty_like(row)) for row in rows],
    ):
        assert len(outcomes(compute, rows, z)) == 1
        assert len(outcomes(compute, other, z)) == 1


def test_products_of_matrices_do_not_depend_on_threads_within_one_thread():
    rows = matrix(60, 2_000)
    halves = np.clip(matrix(60, 2_000) / 5, -1, 1).astype(np.float16)

    def peers(rows, halves):
        return peer_support(rows, halves, np.ones(60), np.ones(60))

    assert len(outcomes(one_blas_thread()(peers), rows, halves)) == 1


def test_one_thread_holds_within_it_alone_and_within_itself():
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with one_blas_thread():
            with one_blas_thread():
                assert set(blas_threads()) == {1}
            assert set(blas_threads()) == {1}
        assert blas_threads() == before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m", [1, 2, 15, 16, 17, 50])
def test_equal_columns_have_equal_sums_wherever_they_stand(m, dtype):
    """Weights that a model has under two keys must stay equal."""
    for d in (2, 3, 5, 64, 1_001, 32_769, 65_537):
        rows, w = matrix(m, d, dtype), RNG.dirichlet(np.ones(m))
        half = d // 2
        rows[:, d - half :] = rows[:, :half]
        for total in (blocks.rounded_sum(w, rows), blocks.weighted_sum(w, rows)):
            np.testing.assert_array_equal(total[d - half :], total[:half])


def test_a_rounded_sum_is_right_to_float32_s_digits_also_where_weights_are_too_small_for_float32():
    rows = matrix(200, 5_000)
    for w in (RNG.dirichlet(np.ones(200)), np.r_[1e-42, np.full(199, 1 / 199)], np.r_[1.0, np.zeros(199)]):
        wide = rows.astype(np.float64)
        found = blocks.rounded_sum(w, rows)
        assert found.dtype == np.float32
        assert np.all(np.abs(found - w @ wide) <= 1.2e-6 * (w @ np.abs(wide)))
    np.testing.assert_array_equal(blocks.rounded_sum(np.r_[1.0, np.zeros(199)], rows), rows[0])


def test_a_row_in_parts_is_subtracted_as_a_whole_and_its_norm_is_right(monkeypatch):
    left, right = RNG.normal(size=(2, 1_000)).astype(np.float32)
    for long in (7, 300, 10_000):
        monkeypatch.setattr(blocks, "_LONG", long)
        out = np.empty_like(left)
        cuts = [0, 0, 1, 8, 400, 1_000]
        parts = [(slice(*cut), right[slice(*cut)]) for cut in pairwise(cuts)]
        norm = blocks.subtract(left, parts, out)
        np.testing.assert_array_equal(out, left - right)
        assert norm == pytest.approx(np.linalg.norm((left - right).astype(np.float64)), rel=1e-14)
    assert np.isnan(blocks.subtract(left, [(slice(0, 1_000), np.full(1_000, np.nan, np.float32))], out))
