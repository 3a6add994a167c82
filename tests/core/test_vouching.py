"""The set that vouches most for itself: against brute force, in any order, and with few voices."""

from itertools import combinations

import numpy as np
import pytest

from fedlaw_flwr.core.support import rank_support
from fedlaw_flwr.core.vouching import value, vouching_sets


def instance(seed, m, lift=0.0, honest=0):
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(m, m))
    found[:honest, :honest] += lift
    np.fill_diagonal(found, np.nan)
    return np.nan_to_num(rank_support(found)), 0.3 * rng.normal(size=m)


def brute_force(ranks, bonus, size, voices):
    return max(value(ranks, bonus, np.array(chosen), voices) for chosen in combinations(range(len(bonus)), size))


def test_the_value_is_the_sum_over_pairs_and_members():
    ranks, bonus = np.arange(9.0).reshape(3, 3), np.array([0.5, 0.25, 0.125])
    assert value(ranks, bonus, np.array([0, 2]), 2) == ranks[0, 2] + ranks[2, 0] + 0.625
    # The least content of 0 (who hears 6 of 2) and 2 (who hears 2 of 0), counted for both.
    assert value(ranks, bonus, np.array([0, 2]), 1) == 2 * 2 + 0.625


@pytest.mark.parametrize("seed", range(20))
def test_with_all_voices_the_search_ends_at_the_global_optimum_on_small_cases(seed):
    m = 5 + seed % 7
    ranks, bonus = instance(seed, m)
    size = 2 + seed % (m - 2)
    best = vouching_sets(ranks, bonus, size)[0]
    assert best.value == pytest.approx(brute_force(ranks, bonus, size, size))
    assert best.value == pytest.approx(value(ranks, bonus, best.members, size))


@pytest.mark.parametrize("seed", range(10))
def test_with_few_voices_the_search_finds_the_group_that_is_there(seed):
    ranks, bonus = instance(seed, 12, lift=3.0, honest=8)
    best = vouching_sets(ranks, bonus, 8, voices=4)[0]
    assert best.members.tolist() == list(range(8))
    assert best.value == pytest.approx(brute_force(ranks, bonus, 8, 4))


def test_reviewers_that_all_lie_alike_win_with_all_voices_and_lose_where_the_least_content_decide():
    # Ten honest silos that hear little good of one another, five liars that praise one another and five honest silos.
    rng = np.random.default_rng(0)
    found = rng.normal(size=(15, 15))
    found[:10, :10] += 1.5
    found[10:, 10:] += 50
    found[:5, 10:] += 25
    found[5:10, 10:] -= 25
    found[10:, :10] -= 2
    np.fill_diagonal(found, np.nan)
    ranks, nothing = np.nan_to_num(rank_support(found)), np.zeros(15)
    few = vouching_sets(ranks, nothing, 10, voices=5)[0].members
    assert few.tolist() == list(range(10))


def test_the_order_of_the_silos_does_not_matter():
    ranks, bonus = instance(3, 10, lift=1.0, honest=6)
    order = np.random.default_rng(1).permutation(10)
    here = vouching_sets(ranks, bonus, 6)[0].members
    there = vouching_sets(ranks[np.ix_(order, order)], bonus[order], 6)[0].members
    assert sorted(order[there].tolist()) == here.tolist()


def test_everybody_is_the_only_set_of_that_size():
    ranks, bonus = instance(0, 6)
    (found,) = vouching_sets(ranks, bonus, 6)
    assert found.members.tolist() == list(range(6))


@pytest.mark.parametrize(("size", "voices"), [(0, 0), (7, 0), (3, 4)])
def test_sizes_that_cannot_be_are_refused(size, voices):
    ranks, bonus = instance(0, 6)
    with pytest.raises(ValueError, match="1 to 6"):
        vouching_sets(ranks, bonus, size, voices)
