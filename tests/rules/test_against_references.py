"""Every rule against plain float64 loops from its paper, and against ByzFL where both mean the same thing."""

import numpy as np
import pytest
from references import rules as reference
from scipy.optimize import minimize

from fedlaw_flwr.rules.bucketing import bucketing
from fedlaw_flwr.rules.bulyan import bulyan
from fedlaw_flwr.rules.caf import caf
from fedlaw_flwr.rules.cclip import cclip
from fedlaw_flwr.rules.cw_median import coordinate_median
from fedlaw_flwr.rules.fedavg import mean
from fedlaw_flwr.rules.huber import huber
from fedlaw_flwr.rules.ideal import ideal
from fedlaw_flwr.rules.krum import krum
from fedlaw_flwr.rules.multi_krum import multi_krum
from fedlaw_flwr.rules.nnm import nnm
from fedlaw_flwr.rules.rfa import rfa
from fedlaw_flwr.rules.trimmed_mean import trimmed_mean

SHAPES = [(7, 1, 1), (11, 5, 2), (12, 9, 2), (15, 4, 3), (23, 6, 5)]  # n, d, f: all within Bulyan's n >= 4f + 3


def under_attack(n, d, f, dtype=np.float64):
    """n updates of which f, at random places, are five times as long and elsewhere."""
    random = np.random.default_rng([n, d, f])
    updates = random.normal(size=(n, d)) + random.normal(size=d)
    attackers = random.permutation(n)[:f]
    updates[attackers] = 5 * random.normal(size=(f, d)) - 3
    return updates.astype(dtype), np.isin(np.arange(n), attackers, invert=True)


RULES = {
    "mean": (lambda x, f: mean(x), lambda x, f: reference.mean(x)),
    "krum": (krum, reference.krum),
    "multi_krum, m = n - f": (multi_krum, lambda x, f: reference.multi_krum(x, f, len(x) - f)),
    "multi_krum, m = 3": (lambda x, f: multi_krum(x, f, 3), lambda x, f: reference.multi_krum(x, f, 3)),
    "trimmed_mean": (trimmed_mean, reference.trimmed_mean),
    "coordinate_median": (lambda x, f: coordinate_median(x), lambda x, f: reference.coordinate_median(x)),
    "bulyan": (bulyan, reference.bulyan),
    "bulyan, its own pool": (lambda x, f: bulyan(x, f, 4, 3), lambda x, f: reference.bulyan(x, f, 4, 3)),
    "bulyan, its own numbers": (lambda x, f: bulyan(x, f, 5, 3, 2), lambda x, f: reference.bulyan(x, f, 5, 3, 2)),
    "cclip, one step": (
        lambda x, f: cclip(x, np.full(x.shape[1], 0.5), 1.5),
        lambda x, f: reference.cclip(x, [0.5] * x.shape[1], 1.5, 1),
    ),
    "cclip, four steps": (
        lambda x, f: cclip(x, np.zeros(x.shape[1]), 0.7, 4),
        lambda x, f: reference.cclip(x, [0.0] * x.shape[1], 0.7, 4),
    ),
    "rfa": (lambda x, f: rfa(x, 1e-6, 3), lambda x, f: reference.rfa(x, 1e-6, 3)),
    "rfa, much smoothed": (lambda x, f: rfa(x, 2.0, 5), lambda x, f: reference.rfa(x, 2.0, 5)),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("n", "d", "f"), SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_rule_is_its_paper_s_formula(name, n, d, f, dtype):
    updates, _ = under_attack(n, d, f, dtype)
    ours, theirs = RULES[name]
    found = ours(updates, f)
    assert found.dtype == dtype and found.shape == (d,)
    # Float32 in, float64 within: only the result is rounded once.
    tolerance = 1e-6 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(found, theirs(updates, f), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("n", "d", "f"), SHAPES)
def test_ideal_is_the_mean_of_the_honest_rows(n, d, f):
    updates, honest = under_attack(n, d, f)
    np.testing.assert_allclose(ideal(updates, honest), reference.ideal(updates, honest), atol=1e-12)


@pytest.mark.parametrize(("n", "d", "f"), SHAPES)
def test_caf_is_algorithm_2_with_the_covariance_formed(n, d, f):
    updates, _ = under_attack(n, d, f)
    # The reference's power method stops about here.
    np.testing.assert_allclose(caf(updates, f), reference.caf(updates, f), atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "f"),
    [
        ([[-3, 3], [0, 1], [1, 2], [-4, 0], [-3, -1]], 2),  # top eigenvalues 4.2, 2.5, 3.0
        ([[-1, 3], [4, 4], [-2, 3], [0, -3], [-1, 2], [2, -2], [3, -1], [-4, -2]], 3),  # 7.3, 7.6
    ],
)
def test_caf_returns_the_best_mean_it_met_not_the_last(rows, f):
    updates = np.array(rows, dtype=np.float64)
    np.testing.assert_allclose(caf(updates, f), reference.caf(updates, f), atol=1e-5)


@pytest.mark.parametrize("threshold", [0.05, 0.5, 3.0])
@pytest.mark.parametrize(("n", "d", "f"), SHAPES)
def test_huber_finds_the_minimum_of_huber_s_loss(n, d, f, threshold):
    updates, _ = under_attack(n, d, f)
    solved = minimize(
        lambda z: reference.huber_loss(updates, z, threshold), np.median(updates, axis=0), method="BFGS", tol=1e-10
    )
    found = huber(updates, threshold, 2000)
    assert reference.huber_loss(updates, found, threshold) <= solved.fun * (1 + 1e-9)
    if d > 1:  # on a line the minimum may be a whole interval
        np.testing.assert_allclose(found, solved.x, atol=2e-4)


def test_huber_with_a_threshold_beyond_all_distances_is_the_mean():
    updates, _ = under_attack(11, 5, 2)
    np.testing.assert_allclose(huber(updates, 1e3), reference.mean(updates), atol=1e-12)


def test_huber_with_a_tiny_threshold_is_the_geometric_median():
    updates, _ = under_attack(11, 5, 2)
    np.testing.assert_allclose(huber(updates, 1e-4, 5000), reference.rfa(updates, 1e-9, 400), atol=1e-3)


@pytest.mark.parametrize(("n", "d", "f"), SHAPES)
def test_nnm_is_its_paper_s_formula(n, d, f):
    updates, _ = under_attack(n, d, f)
    np.testing.assert_allclose(nnm(updates, f), reference.nnm(updates, f), atol=1e-12)


@pytest.mark.parametrize(("n", "size"), [(12, 2), (11, 2), (10, 3), (5, 5), (6, 1)])
def test_bucketing_is_its_paper_s_formula_on_the_same_permutation(n, size):
    updates, _ = under_attack(n, 4, 1)
    permutation = list(np.random.default_rng(7).permutation(n))
    found = bucketing(updates, size, np.random.default_rng(7))
    np.testing.assert_allclose(found, reference.bucketing(updates, size, permutation), atol=1e-12)


class TestByzFL:
    """An implementation by others. Its Krum counts other neighbours (n - f - 1), so it is no oracle for Krum."""

    @pytest.fixture
    def byzfl(self):
        return pytest.importorskip("byzfl")

    @pytest.mark.parametrize(("n", "d", "f"), SHAPES)
    def test_trimmed_mean_and_median_agree(self, byzfl, n, d, f):
        updates, _ = under_attack(n, d, f)
        np.testing.assert_allclose(trimmed_mean(updates, f), byzfl.TrMean(f)(updates), atol=1e-12)
        np.testing.assert_allclose(coordinate_median(updates), byzfl.Median()(updates), atol=1e-12)

    @pytest.mark.parametrize(("n", "d", "f"), SHAPES)
    @pytest.mark.parametrize("steps", [1, 3, 50])
    def test_geometric_median_agrees(self, byzfl, n, d, f, steps):
        updates, _ = under_attack(n, d, f)
        start = updates.mean(axis=0)  # ByzFL starts at 0, RFA's authors at the mean
        theirs = byzfl.GeometricMedian(nu=1e-6, T=steps)(updates - start) + start
        np.testing.assert_allclose(rfa(updates, 1e-6, steps), theirs, atol=1e-10)

    @pytest.mark.parametrize(("n", "d", "f"), SHAPES)
    @pytest.mark.parametrize("steps", [1, 3])
    def test_centered_clipping_agrees_over_two_rounds(self, byzfl, n, d, f, steps):
        updates, _ = under_attack(n, d, f)
        theirs = byzfl.CenteredClipping(L=steps, tau=1.3)
        first = cclip(updates, np.zeros(d), 1.3, steps)
        np.testing.assert_allclose(first, theirs(updates), atol=1e-12)
        np.testing.assert_allclose(cclip(updates * 0.5, first, 1.3, steps), theirs(updates * 0.5), atol=1e-12)

    @pytest.mark.parametrize(("n", "d", "f"), SHAPES)
    def test_nearest_neighbour_mixing_agrees(self, byzfl, n, d, f):
        updates, _ = under_attack(n, d, f)
        np.testing.assert_allclose(nnm(updates, f), byzfl.NNM(f)(updates), atol=1e-12)
