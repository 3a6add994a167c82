"""Small cases worked by hand, where libraries are known to differ, and the calls that are refused."""

import numpy as np
import pytest

from fedlaw_flwr.rules.bucketing import bucket_mixing, bucketing
from fedlaw_flwr.rules.bulyan import bulyan
from fedlaw_flwr.rules.caf import caf
from fedlaw_flwr.rules.cclip import cclip
from fedlaw_flwr.rules.cw_median import coordinate_median
from fedlaw_flwr.rules.fedavg import mean
from fedlaw_flwr.rules.huber import huber
from fedlaw_flwr.rules.ideal import ideal
from fedlaw_flwr.rules.krum import krum, krum_scores
from fedlaw_flwr.rules.multi_krum import multi_krum
from fedlaw_flwr.rules.nnm import neighbour_mixing, nnm
from fedlaw_flwr.rules.rfa import rfa
from fedlaw_flwr.rules.trimmed_mean import trimmed_mean


def column(*values):
    return np.array(values, dtype=np.float64)[:, None]


def test_krum_sums_squared_distances_to_the_n_f_2_nearest_others():
    # n = 6, f = 1: three neighbours. From 0: 1, 2, 4 away, so 1 + 4 + 16. From 2: 1, 2, 2 away, so 1 + 4 + 4.
    scores = krum_scores(column(0, 1, 2, 4, 7, 50), 1)
    assert scores.tolist() == [21, 11, 9, 4 + 9 + 9, 9 + 25 + 36, 43**2 + 46**2 + 48**2]
    assert krum(column(0, 1, 2, 4, 7, 50), 1).tolist() == [2]


def test_krum_with_plain_distances_would_have_chosen_another():
    # n = 5, f = 1: two neighbours. From 1: 1 and 9 away, plainly the nearest (10), squared 82; 16 has 6 and 6, 72.
    updates = column(0, 1, 10, 16, 22)
    assert krum_scores(updates, 1).tolist() == [101, 82, 117, 72, 180]
    plain = np.sort(np.abs(updates - updates.T), axis=1)[:, 1:3].sum(axis=1)
    assert np.argmin(plain) == 1
    assert krum(updates, 1).tolist() == [16]


def test_of_equal_krum_scores_the_lowest_row_wins():
    assert krum(column(3, 1, 2, 3, 1, 2, 3), 0).tolist() == [2]
    assert krum(column(0, 10, 9, 1, 5), 1).tolist() == [9]  # rows 2 and 3 mirror one another about 5


def test_a_last_neighbour_makes_the_nearest_pair_tie_so_that_row_order_decides():
    # n - f - 2 = 1: each of the nearest two has the other for its one neighbour.
    assert krum(column(0, 5, 6, 20), 1).tolist() == [5]
    assert krum(column(20, 6, 5, 0), 1).tolist() == [6]


def test_multi_krum_averages_the_m_best():
    updates = column(0, 1, 2, 4, 7, 50)  # scores 21, 11, 9, 22, 70, ...
    assert multi_krum(updates, 1, 2).tolist() == [1.5]
    assert multi_krum(updates, 1, 1).tolist() == krum(updates, 1).tolist()
    assert multi_krum(updates, 1).item() == pytest.approx(14 / 5)


def test_trimmed_mean_drops_f_a_side_in_each_coordinate():
    updates = np.array([[1.0, 50], [2, 4], [3, 3], [4, 2], [90, -70]])
    assert trimmed_mean(updates, 1).tolist() == [3, 3]
    assert trimmed_mean(updates, 0).tolist() == [20, -11 / 5]
    assert trimmed_mean(updates, 2).tolist() == [3, 3]


def test_the_number_trimmed_is_f_where_a_float_fraction_would_round_down():
    n, f = 100, 29
    assert int(n * 0.29) == 28
    updates = column(*range(71), *[1e6] * 29)
    assert trimmed_mean(updates, f).item() == np.arange(29, 71).mean()


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two():
    assert coordinate_median(column(1, 9, 2, 100)).tolist() == [5.5]
    assert coordinate_median(column(1, 9, 2)).tolist() == [2]


def test_bulyan_scores_the_rest_anew_after_each_choice_then_averages_near_the_median():
    updates = column(1, 3, 9, 11, 18, 22, 28)  # n = 7, f = 1: five are selected, three averaged
    # Four neighbours of 7 rows: 457 329 185 217 246 342 786, so 9. Three of 6 (1 3 11 18 22 28): 393 293 213 165 173
    # 425, so 18. Two of 5 (1 3 11 22 28): 104 68 164 157 325, so 3. One of 4 (1 11 22 28): 22 and 28 tie at 36, so
    # the lower row, 22. One of 3 (1 11 28): 1 and 11 tie, so 1. The pool 1 3 9 18 22; nearest its median: 9 3 1.
    assert bulyan(updates, 1).item() == pytest.approx(13 / 3)
    # Selected in one shot, by the first scores alone, it would be 3 9 11 18 22, and 11 9 18 nearest the median.
    assert sorted(updates[np.argsort(krum_scores(updates, 1))[:5], 0]) == [3, 9, 11, 18, 22]


def test_bulyan_s_median_of_an_even_pool_is_its_lower_middle_value():
    # n = 8, f = 1: six selected, four averaged. Of 0 2 3 7 8 9 the lower middle value is 3: nearest 3 2 0 7.
    assert bulyan(column(0, 2, 3, 7, 8, 9, 500, -500), 1, pool=6).item() == pytest.approx(3.0)


def test_bulyan_beyond_its_proof_keeps_the_median_where_no_values_are_left_to_average():
    # n = 10, f = 4, four neighbours: 30 15 10 10 15 ... so 2; then of 0 1 3 4 5 ...: 51 30 18 27 ... so 3. The pool
    # is 2 3, and max(1, 2 - 8) = 1 value of it is kept: the lower median.
    updates = column(0, 1, 2, 3, 4, 5, 100, 200, 300, 400)
    assert bulyan(updates, 4, pool=2, inner=4).item() == 2
    assert bulyan(updates, 4, pool=2, inner=4, average=2).item() == 2.5


def test_centered_clipping_worked_by_hand():
    # Center 0, tau 5: (3, 4) stays, (30, 40) becomes (3, 4), (0, 0) stays.
    updates = np.array([[3.0, 4], [30, 40], [0, 0]])
    np.testing.assert_allclose(cclip(updates, np.zeros(2), 5.0), [2, 8 / 3], atol=1e-15)
    # From (3, 4): the first adds nothing, the second (27, 36) clipped to (3, 4), the third (-3, -4): back again.
    np.testing.assert_allclose(cclip(updates, np.array([3.0, 4]), 5.0), [3, 4], atol=1e-15)


def test_one_weiszfeld_step_worked_by_hand():
    # Mean of 0 0 9 is 3; weights 1/3 1/3 1/6 give (9/6) / (5/6) = 1.8.
    np.testing.assert_allclose(rfa(column(0, 0, 9), 1e-6, 1), [1.8], atol=1e-12)


def test_weiszfeld_does_not_divide_by_zero_on_a_row():
    assert rfa(column(-1, 0, 1), 1e-6, 3).tolist() == [0]
    assert rfa(np.full((4, 3), 2.5), 1e-6, 3).tolist() == [2.5] * 3


def test_huber_on_a_line_worked_by_hand():
    # T = 1 and z between 0 and 1: (z - 0) + (z - 0) + (z - 1) = 1, the pull of the far row: z = 2/3.
    np.testing.assert_allclose(huber(column(0, 0, 1, 50), 1.0), [2 / 3], atol=1e-5)


def test_huber_reaches_the_honest_from_however_far_the_attackers_pull():
    updates = np.vstack([np.random.default_rng(0).normal(size=(6, 4)), np.full((4, 4), 1e10)])
    assert np.abs(huber(updates, 0.2)).max() < 2


def test_caf_drops_the_one_that_stands_out():
    # The mean is 21.2; 100 loses all its weight, k the share ((21.2 - k) / 78.8)^2. One more step leaves 3 or less.
    c = [1 - ((21.2 - k) / 78.8) ** 2 for k in range(4)]
    assert caf(column(0, 1, 2, 3, 100), 1).item() == pytest.approx(sum(k * c[k] for k in range(4)) / sum(c))


def test_caf_of_no_attackers_and_of_equal_rows_is_the_mean():
    np.testing.assert_allclose(caf(column(0, 1, 5), 0), [2])
    np.testing.assert_allclose(caf(np.full((5, 2), 3.0), 2), [3, 3])


def test_caf_is_not_blinded_by_a_row_it_has_already_silenced():
    # The far rows keep standing out after their weight is gone; were they still counted, nobody else could be.
    honest = np.random.default_rng(0).normal(size=(7, 3))
    updates = np.vstack([honest, [[1e6, 0, 0]], [[0, 1e4, 0]], [[0, 0, 50.0]]])
    assert np.abs(caf(updates, 3) - honest.mean(axis=0)).max() < 0.5


def test_a_bucket_holds_every_row_once_and_the_last_is_a_mean_too():
    mixing = bucket_mixing(7, 3, np.random.default_rng(0))
    assert mixing.shape == (3, 7)
    assert (np.count_nonzero(mixing, axis=0) == 1).all()
    assert np.count_nonzero(mixing, axis=1).tolist() == [3, 3, 1]
    np.testing.assert_allclose(mixing.sum(axis=1), 1)


def test_one_bucket_is_the_mean_and_buckets_of_one_are_the_rows_shuffled():
    updates = column(1, 2, 3, 10)
    assert bucketing(updates, 4, np.random.default_rng(0)).tolist() == [[4]]
    assert sorted(bucketing(updates, 1, np.random.default_rng(0)).ravel()) == [1, 2, 3, 10]


def test_mixing_averages_each_row_with_its_nearest_itself_included():
    # n = 4, f = 1, three nearest: of 0: 0 1 3; of 1: 1 0 3; of 3: 3 1 0; of 11: 11 3 1.
    assert nnm(column(0, 1, 3, 11), 1).ravel().tolist() == [4 / 3, 4 / 3, 4 / 3, 5]
    assert (np.diagonal(neighbour_mixing(column(0, 1, 3, 11), 1)) == 1 / 3).all()


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (lambda: krum(np.ones((4, 2)), 2), r"n=4, f=2.*n - f - 2 = 0"),
        (lambda: krum(np.ones((4, 2)), -1), "f=-1"),
        (lambda: multi_krum(np.ones((6, 2)), 1, 7), "m=7"),
        (lambda: multi_krum(np.ones((6, 2)), 1, 0), "m=0"),
        (lambda: trimmed_mean(np.ones((4, 2)), 2), "n - 2f = 0"),
        (lambda: bulyan(np.ones((8, 2)), 2), "n - 4f = 0"),
        (lambda: bulyan(np.ones((8, 2)), 2, pool=9), "pool=9"),
        (lambda: bulyan(np.ones((8, 2)), 2, pool=4, average=5), "average=5"),
        (lambda: cclip(np.ones((3, 2)), np.zeros(2), 0.0), "tau=0.0"),
        (lambda: cclip(np.ones((3, 2)), np.zeros(3), 1.0), r"\(2,\)"),
        (lambda: rfa(np.ones((3, 2)), 0.0), "nu=0.0"),
        (lambda: rfa(np.ones((3, 2)), 1e-6, 0), "iterations=0"),
        (lambda: huber(np.ones((3, 2)), -1.0), "threshold=-1.0"),
        (lambda: caf(np.ones((4, 2)), 2), "n > 2f"),
        (lambda: ideal(np.ones((3, 2)), np.zeros(3, bool)), "none of the 3"),
        (lambda: ideal(np.ones((3, 2)), np.ones(4, bool)), r"shape \(4,\)"),
        (lambda: bucketing(np.ones((3, 2)), 4, np.random.default_rng(0)), "size=4"),
        (lambda: nnm(np.ones((3, 2)), 3), "n - f = 0"),
        (lambda: mean(np.ones((0, 2))), "nothing to aggregate"),
        (lambda: mean(np.ones((2, 0))), "nothing to aggregate"),
        (lambda: mean(np.ones(3)), r"shape \(3,\)"),
        (lambda: mean(np.ones((2, 2), dtype=np.int64)), "dtype int64"),
        (lambda: mean(np.full((2, 2), 1e200)), "row 0 holds 1e\\+200"),
    ],
)
def test_a_wrong_call_is_refused_with_its_numbers(rule, said):
    with pytest.raises(ValueError, match=said):
        rule()
