"""Who holds which examples and who attacks: covers, expected proportions, the awkward sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from fedlaw_flwr.core.partition import Partition, choose_attackers, group_of, labels_without_honest_home, members

reproducible = settings(derandomize=True, deadline=None, max_examples=60)


@reproducible
@given(
    st.sampled_from(["q-groups", "dirichlet", "iid"]),
    st.integers(1, 30),
    st.integers(2, 12),
    st.integers(30, 300),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_every_example_goes_to_one_silo_and_every_silo_has_one(kind, n, num_labels, m, q, seed):
    labels = np.random.default_rng(seed).integers(0, num_labels, m)
    dealt = Partition(kind, n, q=q, seed=seed).deal(labels, num_labels)
    assert len(dealt) == n
    assert min(map(len, dealt)) >= 1
    np.testing.assert_array_equal(np.sort(np.concatenate(dealt)), np.arange(m))
    assert all(np.all(np.diff(part) > 0) for part in dealt)


@pytest.mark.parametrize("q", [0.1, 0.6, 0.9])
def test_a_label_stays_in_its_group_with_probability_q_and_spreads_evenly_elsewhere(q):
    labels = np.repeat(np.arange(10), 3000)
    dealt = Partition("q-groups", 20, q=q, seed=1).deal(labels, 10)
    for label in range(10):
        counts = np.zeros(10)
        for silo, part in enumerate(dealt):
            counts[group_of(silo, 20, 10)] += np.count_nonzero(labels[part] == label)
        expected = np.full(10, 3000 * (1 - q) / 9)
        expected[label] = 3000 * q
        assert chisquare(counts, expected).pvalue > 1e-4


def test_within_a_group_silos_are_chosen_alike():
    labels = np.zeros(4000, dtype=int)
    dealt = Partition("q-groups", 40, q=1.0, seed=0).deal(labels, 10)
    sizes = [len(dealt[silo]) for silo in members(0, 40, 10)]
    assert chisquare(sizes).pvalue > 1e-4


def test_with_q_one_a_group_holds_its_label_alone():
    labels = np.repeat(np.arange(10), 100)
    dealt = Partition("q-groups", 20, q=1.0, seed=0).deal(labels, 10)
    for silo, part in enumerate(dealt):
        assert set(labels[part]) == {group_of(silo, 20, 10)}


def test_two_labels_make_two_groups_and_fewer_silos_than_labels_fold_them():
    assert Partition("q-groups", 20).num_groups(2) == 2
    labels = np.repeat(np.arange(10), 50)
    dealt = Partition("q-groups", 4, q=1.0, seed=0).deal(labels, 10)
    assert [set(labels[part]) for part in dealt] == [{0, 4, 8}, {1, 5, 9}, {2, 6}, {3, 7}]


@reproducible
@given(st.integers(1, 60), st.integers(1, 20))
def test_group_sizes_differ_by_at_most_one_and_groups_are_neighbours(n, groups):
    groups = min(groups, n)
    of = [group_of(silo, n, groups) for silo in range(n)]
    assert of == sorted(of) and set(of) == set(range(groups))
    sizes = np.bincount(of)
    assert sizes.max() - sizes.min() <= 1


def test_a_lower_dirichlet_concentration_makes_silos_less_alike():
    labels = np.repeat(np.arange(10), 300)

    def spread(concentration):
        dealt = Partition("dirichlet", 10, concentration=concentration, seed=0).deal(labels, 10)
        shares = np.array([np.bincount(labels[part], minlength=10) / len(part) for part in dealt])
        return float(shares.std(axis=0).mean())

    assert spread(0.1) > 2 * spread(10.0)


def test_iid_sizes_are_as_even_as_possible():
    sizes = [len(part) for part in Partition("iid", 7, seed=0).deal(np.zeros(30, int), 2)]
    assert max(sizes) - min(sizes) == 1


def test_the_same_seed_deals_the_same_and_another_seed_otherwise():
    labels = np.random.default_rng(0).integers(0, 10, 500)
    deal = [Partition("q-groups", 20, seed=seed).deal(labels, 10) for seed in (3, 3, 4)]
    assert all(np.array_equal(a, b) for a, b in zip(deal[0], deal[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(deal[0], deal[2], strict=True))


def test_attackers_fill_whole_groups():
    for seed in range(5):
        chosen = choose_attackers(20, 8, "groups", seed, 10)
        groups = {group_of(silo, 20, 10) for silo in chosen}
        assert len(chosen) == 8 and len(groups) == 4


def test_the_last_group_is_filled_in_part_and_group_order_depends_on_the_seed():
    assert len({group_of(silo, 20, 10) for silo in choose_attackers(20, 3, "groups", 0, 10)}) == 2
    assert len({choose_attackers(20, 4, "groups", seed, 10) for seed in range(6)}) > 1


def test_random_attackers_are_spread_over_groups():
    chosen = choose_attackers(200, 40, "random", 0, 10)
    assert len(set(chosen)) == 40
    assert len({group_of(silo, 200, 10) for silo in chosen}) == 10


def test_with_two_labels_attackers_fill_one_half_of_the_silos_before_the_other():
    assert set(choose_attackers(20, 10, "groups", 0, 2)) in (set(range(10)), set(range(10, 20)))


def test_of_one_seed_a_smaller_choice_is_the_beginning_of_a_larger():
    for how in ("groups", "random"):
        assert choose_attackers(23, 12, how, 5, 10)[:7] == choose_attackers(23, 7, how, 5, 10)


def test_what_honest_silos_hold_of_a_label_agrees_with_the_formula_by_hand():
    """Groups 0 to 3 of ten attack, 40 %: a lost label leaves 6 of the 9 other groups, the rest keep q and 5 of 9."""
    share = Partition("q-groups", 20, q=0.6).honest_share(range(8), 10)
    np.testing.assert_allclose(share, [0.4 * 6 / 9] * 4 + [0.6 + 0.4 * 5 / 9] * 6)
    assert Partition("q-groups", 20, q=1.0).honest_share({4, 5}, 10)[2] == 0
    np.testing.assert_allclose(Partition("iid", 20).honest_share(range(8), 10), 0.6)


@pytest.mark.parametrize("n", [23, 4])
def test_what_honest_silos_hold_of_a_label_agrees_with_a_deal(n):
    """Uneven groups (23 silos over 10) and folded ones (4): each label's 3,000 examples within 4.5 deviations."""
    labels = np.repeat(np.arange(10), 3000)
    attackers = {0, 1, 3}
    partition = Partition("q-groups", n, q=0.7, seed=2)
    dealt = partition.deal(labels, 10)
    held = np.zeros(10)
    for silo in set(range(n)) - attackers:
        held += np.bincount(labels[dealt[silo]], minlength=10)
    expected = 3000 * partition.honest_share(attackers, 10)
    assert np.all(np.abs(held - expected) < 4.5 * np.sqrt(expected * (1 - expected / 3000)))


def test_labels_whose_whole_group_attacks_are_named():
    assert labels_without_honest_home(20, 10, {4, 5, 7}) == (2,)
    assert labels_without_honest_home(4, 10, {1}) == (1, 5, 9)
    assert labels_without_honest_home(20, 10, {4, 7}) == ()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "q_groups"}, "partition='q_groups'"),
        ({"q": 1.4}, r"q=1\.4"),
        ({"q": float("nan")}, "q=nan"),
        ({"concentration": 0.0}, "concentration=0"),
        ({"concentration": 1e308}, r"concentration=1e\+308"),
        ({"num_silos": 0}, "num-silos=0"),
        ({"num_silos": 2.5}, r"num-silos=2\.5"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_a_wrong_partition_is_refused_by_name_and_value(settings, said):
    with pytest.raises(ValueError, match=said):
        Partition(**{"kind": "iid", "num_silos": 5} | settings)


@pytest.mark.parametrize("kind", ["q-groups", "dirichlet", "iid"])
def test_a_label_there_is_not_is_refused_rather_than_dealt(kind):
    with pytest.raises(ValueError, match="labels run from 0 to 3: with 3 labels, allowed are 0 to 2"):
        Partition(kind, 2).deal(np.array([0, 1, 2, 3]), 3)


def test_silos_a_dirichlet_draw_left_out_get_one_example_and_the_others_keep_theirs():
    """Two labels, concentration 0.05: most of 20 silos draw nothing."""
    sizes = [len(part) for part in Partition("dirichlet", 20, concentration=0.05, seed=0).deal(np.arange(400) % 2, 2)]
    assert sum(sizes) == 400 and sizes.count(1) > 5


def test_fewer_examples_than_silos_are_refused():
    with pytest.raises(ValueError, match="only 3 examples"):
        Partition("iid", 5).deal(np.zeros(3, int), 2)


@pytest.mark.parametrize(("count", "how"), [(21, "groups"), (-1, "groups"), (3, "all")])
def test_a_wrong_choice_of_attackers_is_refused(count, how):
    with pytest.raises(ValueError, match=r"attackers of 20|byzantine-chosen='all'"):
        choose_attackers(20, count, how, 0, 10)
