"""Support and ranks: cosines against a plain computation, one voice a reviewer, means by silo."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from fedlaw_flwr.core.support import (
    PairMeans,
    SiloMeans,
    agreement,
    along,
    contrast,
    peer_support,
    rank_support,
    relative_support,
    support,
)

RNG = np.random.default_rng(5)
UPDATES = RNG.normal(size=(5, 70_000)).astype(np.float32)
REVIEWS = RNG.normal(size=(5, 70_000)).astype(np.float32)


def norms(rows):
    return np.linalg.norm(rows.astype(np.float64), axis=1)


def test_support_is_the_cosine_of_each_update_with_each_review():
    found = support(UPDATES, REVIEWS, norms(UPDATES), norms(REVIEWS))
    left, right = UPDATES.astype(np.float64), REVIEWS.astype(np.float64)
    expected = left @ right.T / np.outer(norms(UPDATES), norms(REVIEWS))
    off = ~np.eye(5, dtype=bool)
    np.testing.assert_allclose(found[off], expected[off], rtol=1e-9, atol=1e-12)
    assert np.isnan(np.diag(found)).all()


def test_a_silo_without_a_review_has_no_voice_and_is_judged_all_the_same():
    spoilt, said = REVIEWS.copy(), norms(REVIEWS)
    spoilt[2], said[2] = np.nan, np.nan  # what the gate leaves in the row of an invalid review
    found = support(UPDATES, spoilt, norms(UPDATES), said)
    assert np.isnan(found[:, 2]).all()
    whole = support(UPDATES, REVIEWS, norms(UPDATES), norms(REVIEWS))
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(found[:, others], whole[:, others])


def test_support_is_zero_where_a_norm_is():
    updates, reviews = UPDATES.copy(), REVIEWS.copy()
    updates[1], reviews[3] = 0, 0
    found = support(updates, reviews, norms(updates), norms(reviews))
    assert np.nansum(np.abs(found[1])) == 0 and np.nansum(np.abs(found[:, 3])) == 0
    assert np.isfinite(found[1, 3])


@given(arrays(np.float64, (6, 6), elements=st.floats(-1, 1)))
def test_every_reviewer_has_one_voice_whatever_its_numbers(found):
    np.fill_diagonal(found, np.nan)
    ranks = rank_support(found)
    assert np.nanmax(np.abs(ranks)) <= 1
    np.testing.assert_allclose(np.nansum(ranks, axis=0), 0, atol=1e-12)
    for j in range(6):
        known = np.flatnonzero(np.isfinite(found[:, j]))
        np.testing.assert_allclose(ranks[known, j], 2 * (rankdata(found[known, j]) - 1) / 4 - 1, atol=1e-12)


@given(arrays(np.float64, (6, 6), elements=st.floats(-1, 1)))
def test_relative_support_keeps_the_sign_and_no_reviewer_is_louder_than_one(found):
    np.fill_diagonal(found, np.nan)
    relative = relative_support(found)
    off = ~np.eye(6, dtype=bool)
    assert np.isnan(np.diag(relative)).all() and np.abs(relative[off]).max() <= 1
    assert (np.sign(relative[off]) * np.sign(found[off]) >= 0).all()
    for j in range(6):
        said, told = np.delete(found[:, j], j), np.delete(relative[:, j], j)
        rms = np.sqrt(np.mean(said**2))
        np.testing.assert_allclose(told, np.clip(said / (2 * rms), -1, 1) if rms > 0 else 0, atol=1e-9)


def test_a_single_value_ranks_in_the_middle_and_nothing_where_nothing_is_known():
    found = np.full((3, 3), np.nan)
    found[0, 1] = 0.3
    ranks = rank_support(found)
    assert ranks[0, 1] == 0 and np.isnan(np.delete(ranks.ravel(), 1)).all()


def test_means_are_over_the_rounds_in_which_both_were_there():
    means = PairMeans()
    means.add("ab", np.array([[np.nan, 1.0], [2.0, np.nan]]))
    means.add("bca", np.array([[np.nan, 5.0, 4.0], [6.0, np.nan, np.nan], [3.0, 7.0, np.nan]]))
    expected = np.array([[np.nan, 2.0, 7.0], [3.0, np.nan, 5.0], [np.nan, 6.0, np.nan]])
    np.testing.assert_array_equal(means.over("abc"), expected)
    means.forget()
    means.add("a", np.array([[np.nan]]))
    assert np.isnan(means.over("a")).all()


def test_a_silos_mean_leaves_out_what_it_did_not_say():
    means = SiloMeans()
    means.add("ab", np.array([1.0, np.nan]))
    means.add("a", np.array([4.0]))
    assert means.over("ab", otherwise=-1.0).tolist() == [pytest.approx(2.5), -1.0]


def test_agreement_is_the_cosine_of_each_review_with_each_other_and_unknown_without_one():
    spoilt, said = REVIEWS.copy(), norms(REVIEWS)
    spoilt[2], said[2] = np.nan, np.nan
    found = agreement(spoilt, said)
    whole = REVIEWS.astype(np.float64) @ REVIEWS.astype(np.float64).T / np.outer(norms(REVIEWS), norms(REVIEWS))
    others = np.ix_([0, 1, 3, 4], [0, 1, 3, 4])
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(found[others][off], whole[others][off], rtol=1e-9, atol=1e-12)
    assert np.isnan(found[2]).all() and np.isnan(found[:, 2]).all() and np.isnan(np.diag(found)).all()


def test_support_and_agreement_of_reviews_in_float16_are_theirs_to_float32_s_digits():
    halves = (REVIEWS / np.abs(REVIEWS).max()).astype(np.float16)
    said = norms(halves)
    halves[3], said[3] = np.inf, np.nan
    for scale in (np.float32(1e-30), np.float32(1), np.float32(1e34)):
        updates = scale * UPDATES
        found, agreed = peer_support(updates, halves, norms(updates), said)
        np.testing.assert_allclose(found, support(updates, halves, norms(updates), said), atol=1e-6)
        np.testing.assert_allclose(agreed, agreement(halves, said), atol=1e-6)
    assert np.isnan(agreed[3]).all() and np.isnan(found[:, 3]).all() and np.isfinite(found[3, :3]).all()


def test_along_is_the_mean_of_unit_reviews_and_reads_no_other_row():
    reviews = np.array([[3.0, 4.0, 0.0], [np.nan, np.inf, 1.0], [0.0, 0.0, 2.0]], np.float16)
    norms = np.array([5.0, np.nan, 2.0])
    found = along(reviews, norms, np.array([0, 2]), 2.0)
    np.testing.assert_allclose(found, [0.6, 0.8, 1.0])
    assert along(reviews, norms, np.array([0, 2]), 0.0) is None
    assert along(reviews, norms, np.array([], np.intp), 2.0) is None


def test_other_dtypes_keep_float64_s_digits():
    found, agreed = peer_support(UPDATES, REVIEWS, norms(UPDATES), norms(REVIEWS))
    np.testing.assert_array_equal(found, support(UPDATES, REVIEWS, norms(UPDATES), norms(REVIEWS)))
    np.testing.assert_array_equal(agreed, agreement(REVIEWS, norms(REVIEWS)))


def test_contrast_takes_a_share_of_what_all_say_of_a_silo():
    found = np.array([[np.nan, 0.2, 0.4], [0.5, np.nan, np.nan], [np.nan, np.nan, np.nan]])
    less = contrast(found, 0.75)
    np.testing.assert_allclose(less[0, 1:], [0.2 - 0.225, 0.4 - 0.225])
    np.testing.assert_allclose(less[1, 0], 0.125)
    assert np.isnan(less[2]).all()
    np.testing.assert_array_equal(contrast(found, 0.0), found)


def test_with_decay_a_round_counts_for_less_when_the_next_one_comes():
    pairs, silos = PairMeans(0.5), SiloMeans(0.5)
    for value in (1.0, 4.0):
        pairs.add(["a", "b"], np.full((2, 2), value))
        silos.add(["a", "b"], np.array([value, np.nan]))
    np.testing.assert_allclose(pairs.over(["a"]), (0.5 * 1 + 4) / 1.5)
    np.testing.assert_allclose(silos.over(["a", "b"]), [(0.5 * 1 + 4) / 1.5, 0.0])
    pairs.add(["b"], np.full((1, 1), 9.0))
    np.testing.assert_allclose(pairs.over(["a"]), (0.5 * 1 + 4) / 1.5)  # who is absent keeps what was said
