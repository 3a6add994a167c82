"""A rule over the rounds of a run: its registry, its conditions, alpha, buckets, memory and who got weight."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from fedlaw_flwr.core.seeding import generator
from fedlaw_flwr.rules import PRE_AGGREGATIONS, RULES, Aggregator, RuleSettings, check
from fedlaw_flwr.rules.bucketing import bucketing
from fedlaw_flwr.rules.bulyan import bulyan
from fedlaw_flwr.rules.cclip import cclip
from fedlaw_flwr.rules.krum import krum
from fedlaw_flwr.rules.nnm import nnm
from fedlaw_flwr.rules.rfa import rfa
from fedlaw_flwr.rules.trimmed_mean import trimmed_mean


def updates_of(n=12, d=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def test_every_rule_and_pre_aggregation_says_in_one_line_what_it_does_and_whose_it_is():
    assert set(RULES) >= {
        "fedavg",
        "krum",
        "multi_krum",
        "trimmed_mean",
        "cw_median",
        "bulyan",
        "cclip",
        "rfa",
        "huber",
    }
    for entry in [*RULES.values(), *PRE_AGGREGATIONS.values()]:
        assert entry.summary and entry.source and "\n" not in entry.summary + entry.source


def test_rules_are_imported_without_torch_flower_or_scipy():
    code = "import sys, fedlaw_flwr.rules; print([m for m in ('torch', 'flwr', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "n", "f", "enough"),
    [
        ("krum", 8, 3, 9),
        ("multi_krum", 4, 1, 5),
        ("bulyan", 10, 2, 11),
        ("trimmed_mean", 6, 3, 7),
        ("cw_median", 6, 3, 7),
        ("cclip", 6, 3, 7),
        ("rfa", 6, 3, 7),
        ("huber", 6, 3, 7),
        ("caf", 6, 3, 7),
    ],
)
def test_a_rule_is_refused_below_its_paper_s_condition_and_runs_from_there_on(name, n, f, enough):
    with pytest.raises(ValueError, match=rf"{name} with f={f} needs n >= .* = {enough} rows, but there are {n}"):
        check(name, n, RuleSettings(f=f))
    check(name, enough, RuleSettings(f=f))
    updates = updates_of(enough)
    assert Aggregator(name, RuleSettings(f=f))(updates, 1).update.shape == (6,)
    with pytest.raises(ValueError, match=f"there are {n}"):
        Aggregator(name, RuleSettings(f=f))(updates[:n], 1)


def test_the_refusal_says_what_to_do():
    with pytest.raises(ValueError, match="lower f to at most 3, or set beyond_guarantee=true"):
        check("krum", 10, RuleSettings(f=4))
    with pytest.raises(ValueError, match="16 silos in buckets of 2 make 8"):
        check("krum", 16, RuleSettings(f=3, bucket_size=2))
    with pytest.raises(ValueError, match="there is no rule 'crum'; the rules are fedavg, krum"):
        check("crum", 16, RuleSettings())


def test_beyond_the_guarantee_a_rule_runs_while_its_formula_has_a_value():
    beyond = RuleSettings(f=4, beyond_guarantee=True)
    check("krum", 10, beyond)
    np.testing.assert_array_equal(Aggregator("krum", beyond)(updates_of(10), 1).update, krum(updates_of(10), 4))
    with pytest.raises(ValueError, match="needs n >= f \\+ 3 = 7 rows, but there are 6"):
        check("krum", 6, beyond)
    with pytest.raises(ValueError, match="needs n >= 2f \\+ 1 = 9 rows, but there are 8"):
        check("trimmed_mean", 8, beyond)


@pytest.mark.parametrize("fraction", [0.3, 0.4])
def test_bulyan_beyond_its_proof_selects_and_scores_as_the_fedlaw_paper(fraction):
    n = 50
    f = round(fraction * n)
    updates = updates_of(n, 4)
    with pytest.raises(ValueError, match="4f \\+ 3"):
        check("bulyan", n, RuleSettings(f=f))
    for pool in (None, 5, 12):
        found = Aggregator("bulyan", RuleSettings(f=f, beyond_guarantee=True, bulyan_pool=pool))(updates, 1)
        theta = n - 2 * f if pool is None else pool
        expected = bulyan(updates, f, pool=theta, inner=n - f - 2)  # (1 - fraction) n - 2
        np.testing.assert_array_equal(found.update, expected)
        assert found.kept.sum() == theta


@pytest.mark.parametrize(
    ("name", "numbers", "said"),
    [
        ("krum", {"f": 12}, "f=12 of n=12"),
        ("fedavg", {"bucket_size": 13}, "bucket_size=13"),
        ("multi_krum", {"f": 2, "krum_m": 11}, "krum_m=11"),
        ("bulyan", {"f": 2, "bulyan_pool": 5}, "bulyan_pool=5"),
        ("bulyan", {"f": 2, "bulyan_pool": 20, "beyond_guarantee": True}, "bulyan_pool=20"),
        ("bulyan", {"f": 2, "bulyan_average": 3}, "bulyan_average=3: Bulyan's proof fixes them"),
        ("bulyan", {"f": 2, "bulyan_average": 9, "beyond_guarantee": True}, "at most the 8 rows it selects"),
        ("bulyan", {"f": 6, "beyond_guarantee": True}, "n-2f = 0"),
        ("fedavg", {"f": 6, "nnm": True}, "nnm with f=6 needs n >= 2f \\+ 1 = 13 rows"),
        ("ideal", {"nnm": True}, "set bucket_size=1 and nnm=false"),
        ("ideal", {"bucket_size": 2}, "set bucket_size=1 and nnm=false"),
    ],
)
def test_numbers_that_do_not_fit_the_federation_are_refused(name, numbers, said):
    with pytest.raises(ValueError, match=said):
        check(name, 12, RuleSettings(**numbers))


@pytest.mark.parametrize(
    "numbers",
    [
        {"f": -1},
        {"f": 1.5},
        {"f": True},
        {"krum_m": 0},
        {"bulyan_pool": 0},
        {"bulyan_average": 0},
        {"cclip_tau": 0.0},
        {"cclip_tau": float("nan")},
        {"cclip_iterations": 0},
        {"rfa_nu": -1e-6},
        {"rfa_iterations": 0},
        {"huber_threshold": float("inf")},
        {"bucket_size": 0},
        {"seed": -1},
    ],
    ids=str,
)
def test_absurd_numbers_are_refused_at_once(numbers):
    (name, value), *_ = numbers.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        RuleSettings(**numbers)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_an_alpha_that_is_no_length_is_refused(scale):
    with pytest.raises(ValueError, match="scale"):
        Aggregator("cclip", RuleSettings(), scale)(updates_of(), 1)


def test_thresholds_are_in_units_of_g_and_converted_once():
    g, alpha = updates_of(), 0.01
    settings = RuleSettings(f=1, cclip_tau=0.7, rfa_nu=0.5)
    clipped = Aggregator("cclip", settings, scale=alpha)(alpha * g, 1).update
    np.testing.assert_allclose(clipped, alpha * cclip(g, np.zeros(6), 0.7), rtol=1e-12)
    median = Aggregator("rfa", settings, scale=alpha)(alpha * g, 1).update
    np.testing.assert_allclose(median, alpha * rfa(g, 0.5, 3), rtol=1e-12)


def test_centered_clipping_starts_each_round_where_the_last_one_ended():
    rule = Aggregator("cclip", RuleSettings(cclip_tau=0.5))
    first = rule(updates_of(seed=1), 1).update
    np.testing.assert_allclose(first, cclip(updates_of(seed=1), np.zeros(6), 0.5), rtol=1e-12)
    np.testing.assert_allclose(rule(updates_of(seed=2), 2).update, cclip(updates_of(seed=2), first, 0.5), rtol=1e-12)


def test_the_centre_can_be_stored_and_set_back_and_follows_alpha():
    settings = RuleSettings(cclip_tau=0.5)
    rule, resumed = Aggregator("cclip", settings, 0.1), Aggregator("cclip", settings, 0.1)
    rule(0.1 * updates_of(seed=1), 1)
    resumed.center = rule.center.copy()
    expected = rule(0.1 * updates_of(seed=2), 2).update
    np.testing.assert_array_equal(resumed(0.1 * updates_of(seed=2), 2).update, expected)
    halved = Aggregator("cclip", settings, 0.1)
    halved(0.1 * updates_of(seed=1), 1)
    halved.scale = 0.05
    np.testing.assert_allclose(halved(0.05 * updates_of(seed=2), 2).update, 0.5 * expected, rtol=1e-12)


def test_a_refused_round_leaves_the_centre_alone():
    rule = Aggregator("cclip", RuleSettings(f=2, cclip_tau=0.5))
    rule(updates_of(), 1)
    before = rule.center.copy()
    with pytest.raises(ValueError):
        rule(updates_of(4), 2)
    np.testing.assert_array_equal(rule.center, before)


def test_only_a_rule_with_memory_keeps_a_centre():
    for name, rule in RULES.items():
        aggregator = Aggregator(name, RuleSettings(f=1))
        aggregator(updates_of(), 1, np.ones(12, dtype=bool))
        assert (aggregator.center is not None) == rule.remembers == (name == "cclip")


def test_buckets_are_drawn_from_the_seed_and_the_round():
    settings = RuleSettings(f=1, bucket_size=2, seed=5)
    updates = updates_of()
    found = Aggregator("trimmed_mean", settings)(updates, 3).update
    expected = trimmed_mean(bucketing(updates, 2, generator(5, "rule", 3)), 1)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(Aggregator("trimmed_mean", settings)(updates, 3).update, found)
    assert (Aggregator("trimmed_mean", settings)(updates, 4).update != found).any()
    other = dataclasses.replace(settings, seed=6)
    assert (Aggregator("trimmed_mean", other)(updates, 3).update != found).any()


def test_with_both_pre_aggregations_buckets_come_first():
    updates = updates_of(14)
    found = Aggregator("cw_median", RuleSettings(f=2, bucket_size=2, nnm=True, seed=1))(updates, 9).update
    mixed = nnm(bucketing(updates, 2, generator(1, "rule", 9)), 2)
    np.testing.assert_allclose(found, np.median(mixed, axis=0), rtol=1e-12)


def test_krum_on_buckets_gives_its_bucket_equal_weight_and_the_others_none():
    updates = updates_of(13)
    found = Aggregator("krum", RuleSettings(f=2, bucket_size=2))(updates, 1)
    assert sorted(found.weights[found.weights > 0]) in ([0.5, 0.5], [1.0])
    np.testing.assert_array_equal(found.kept, found.weights > 0)
    np.testing.assert_allclose(found.weights @ updates, found.update, atol=1e-12)


def test_weights_and_selection_show_who_was_excluded():
    updates = updates_of(11)
    updates[[3, 8]] += 50
    attackers = np.isin(np.arange(11), [3, 8])
    for name in ("krum", "multi_krum"):
        assert not Aggregator(name, RuleSettings(f=2))(updates, 1).kept[attackers].any()
    for name in ("krum", "multi_krum", "caf"):
        assert not Aggregator(name, RuleSettings(f=2))(updates, 1).weights[attackers].any()
    for name in ("rfa", "huber"):
        weights = Aggregator(name, RuleSettings(f=2, rfa_iterations=50))(updates, 1).weights
        assert weights[attackers].max() < weights[~attackers].min()


def test_rules_that_mix_coordinates_claim_no_weights_and_no_selection():
    for name in ("trimmed_mean", "cw_median", "cclip"):
        found = Aggregator(name, RuleSettings(f=1))(updates_of(), 1)
        assert found.weights is None and found.kept is None
    bulyan_found = Aggregator("bulyan", RuleSettings(f=2))(updates_of(), 1)
    assert bulyan_found.weights is None and bulyan_found.kept.sum() == 12 - 4
    assert Aggregator("fedavg", RuleSettings())(updates_of(), 1).kept.all()


def test_ideal_reads_the_honest_mask_and_is_refused_without_one():
    updates, honest = updates_of(), np.arange(12) % 3 > 0
    found = Aggregator("ideal", RuleSettings(f=4))(updates, 1, honest)
    np.testing.assert_allclose(found.update, updates[honest].mean(axis=0), atol=1e-12)
    np.testing.assert_array_equal(found.kept, honest)
    with pytest.raises(ValueError, match="simulation only"):
        Aggregator("ideal", RuleSettings(f=4))(updates, 1)
