"""The projection on the sparse capped simplex against exact solvers, closed forms and its defining properties."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedlaw_flwr.core.projection import project

reproducible = settings(derandomize=True, deadline=None, max_examples=150)


def capped_simplex_by_active_sets(h, t):
    """The QP min ||w - h||^2, sum w = 1, 0 <= w <= t: every KKT split of the entries tried, the nearest kept."""
    n = h.size
    best = None
    for a in range(n + 1):
        for top in combinations(range(n), a):
            rest = [i for i in range(n) if i not in top]
            for k in range(len(rest) + 1):
                for free in combinations(rest, k):
                    w = np.zeros(n)
                    w[list(top)] = t
                    left = 1 - a * t
                    if k == 0:
                        if abs(left) > 1e-12:
                            continue
                    else:
                        f = list(free)
                        w[f] = h[f] + (left - h[f].sum()) / k
                    if w.min() < -1e-12 or w.max() > t + 1e-12:
                        continue
                    distance = float(((w - h) ** 2).sum())
                    if best is None or distance < best[0] - 1e-15:
                        best = (distance, w)
    return best


@st.composite
def problems(draw, largest=40, bound=1e3):
    n = draw(st.integers(1, largest))
    h = draw(arrays(np.float64, n, elements=st.floats(-bound, bound, allow_nan=False)))
    s = draw(st.integers(1, n))
    t = draw(st.floats(1.0 / s, 1.5))
    return h, s, t


@pytest.mark.parametrize("n", range(1, 7))
def test_agrees_with_an_exact_quadratic_programme_over_all_supports(n):
    rng = np.random.default_rng(n)
    for _ in range(4):
        h = rng.normal(size=n) * rng.choice([0.05, 0.3, 2.0])
        for s in range(1, n + 1):
            t = rng.uniform(1 / s, 1.2)
            nearest = min(
                (
                    (d + float((np.delete(h, list(support)) ** 2).sum()), support, w)
                    for support in combinations(range(n), s)
                    for d, w in [capped_simplex_by_active_sets(h[list(support)], t)]
                ),
                key=lambda found: found[0],
            )
            expected = np.zeros(n)
            expected[list(nearest[1])] = nearest[2]
            np.testing.assert_allclose(project(h, s, t), expected, atol=1e-12)


@pytest.mark.parametrize("n", [7, 8])
def test_agrees_with_a_solver_of_scipy_over_all_supports(n):
    from scipy.optimize import minimize

    rng = np.random.default_rng(n)
    h, s = rng.normal(size=n) * 0.3, n - 3
    t = 1.3 / s
    values = []
    for support in combinations(range(n), s):
        part = h[list(support)]
        solved = minimize(
            lambda w, part=part: ((w - part) ** 2).sum(),
            np.full(s, 1 / s),
            jac=lambda w, part=part: 2 * (w - part),
            bounds=[(0, t)] * s,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
            method="SLSQP",
            options={"ftol": 1e-15},
        )
        values.append(solved.fun + (np.delete(h, list(support)) ** 2).sum())
    assert ((project(h, s, t) - h) ** 2).sum() == pytest.approx(min(values), abs=1e-9)


@reproducible
@given(problems())
def test_the_result_is_feasible(problem):
    h, s, t = problem
    w = project(h, s, t)
    assert abs(w.sum() - 1) < 1e-12 * max(1, np.abs(h).max())
    assert w.min() >= 0
    assert w.max() <= t + 1e-12
    assert np.count_nonzero(w) <= s


@reproducible
@given(problems(bound=10.0), st.integers(0, 2**32 - 1))
def test_no_feasible_point_is_nearer(problem, seed):
    h, s, t = problem
    distance = ((project(h, s, t) - h) ** 2).sum()
    rng = np.random.default_rng(seed)
    for _ in range(20):
        other = np.zeros(h.size)
        other[rng.choice(h.size, s, replace=False)] = project(rng.normal(size=s), s, t)
        assert distance <= ((other - h) ** 2).sum() + 1e-9


@reproducible
@given(problems())
def test_projecting_twice_changes_nothing(problem):
    h, s, t = problem
    w = project(h, s, t)
    np.testing.assert_allclose(project(w, s, t), w, atol=1e-10)


@reproducible
@given(problems())
def test_a_higher_score_never_gets_less(problem):
    h, s, t = problem
    w = project(h, s, t)
    ranked = w[np.argsort(-h, kind="stable")]
    assert np.all(np.diff(ranked) <= 1e-12)


@reproducible
@given(problems(bound=10.0), st.floats(-100, 100))
def test_adding_one_number_to_all_scores_changes_nothing(problem, shift):
    h, s, t = problem
    ordered = np.sort(h)[::-1]
    if s < h.size and ordered[s - 1] - ordered[s] < 1e-9:
        return  # the shift may round a near tie at the edge of the support the other way
    np.testing.assert_allclose(project(h + shift, s, t), project(h, s, t), atol=1e-11)


@pytest.mark.parametrize("n", [30, 500, 3000])
@pytest.mark.parametrize("cap", [1.0, 1.01, 1.3, 20.0, 1e9])
@pytest.mark.parametrize("spread", [1e-5, 1e-2, 1.0])
def test_many_scores_agree_with_halving_over_tau(n, cap, spread):
    rng = np.random.default_rng([n, int(cap)])
    h, s = np.round(rng.normal(size=n) * spread, 6), n - n // 5  # rounded, so that some tie
    t = min(cap / s, 1.5)
    support = np.sort(np.argsort(-h, kind="stable")[:s])
    low, high = h.min() - t, h.max()
    for _ in range(200):
        tau = 0.5 * (low + high)
        low, high = (tau, high) if np.clip(h[support] - tau, 0, t).sum() >= 1 else (low, tau)
    expected = np.zeros(n)
    expected[support] = np.clip(h[support] - low, 0, t)
    np.testing.assert_allclose(project(h, s, t), expected, atol=1e-11)


def test_with_s_equal_to_the_honest_and_t_its_inverse_the_best_share_alike():
    n, b = 10, 3
    h = np.random.default_rng(0).normal(size=n)
    w = project(h, n - b, 1 / (n - b))
    best = np.sort(np.argsort(-h)[: n - b])
    np.testing.assert_allclose(w[best], 1 / (n - b), atol=1e-12)
    assert np.count_nonzero(w) == n - b


def test_a_single_silo_takes_all():
    assert project([-3.5], 1, 1.0).tolist() == [1.0]


def test_without_cap_and_sparsity_it_is_the_projection_on_the_simplex():
    # By hand: tau = (0.8 + 0.5 - 1) / 2 = 0.15 leaves (0.65, 0.35, 0).
    np.testing.assert_allclose(project([0.8, 0.5, -1.0], 3, 1.0), [0.65, 0.35, 0.0], atol=1e-15)


def test_a_capped_case_worked_by_hand():
    # Support .9, .5, .3; .9 is capped at .5; the others share .5: tau = (.5 + .3 - .5) / 2 = .15.
    np.testing.assert_allclose(project([0.5, 0.2, 0.3, 0.9, -1], 3, 0.5), [0.35, 0, 0.15, 0.5, 0], atol=1e-15)


def test_equal_scores_share_and_the_first_keep_their_place():
    np.testing.assert_allclose(project(np.full(6, 7.0), 4, 0.5), [0.25] * 4 + [0, 0], atol=1e-15)


def test_scores_of_1e30_are_no_special_case():
    np.testing.assert_allclose(project([1e30, 1.0, 2.0], 2, 0.6), [0.6, 0.0, 0.4], atol=1e-15)
    np.testing.assert_allclose(project([1e30, 1e30, -1e30], 3, 0.5), [0.5, 0.5, 0.0], atol=1e-15)


def test_a_cap_that_misses_one_by_rounding_is_read_as_meant():
    t = 1 / 49
    assert 49 * t < 1
    np.testing.assert_allclose(project(np.arange(49.0), 49, t), t, atol=1e-15)


def test_neither_changes_nor_aliases_its_input():
    h = np.array([0.2, 0.7, 0.1])
    before = h.copy()
    w = project(h, 3, 1.0)
    w[:] = -1
    np.testing.assert_array_equal(h, before)


@pytest.mark.parametrize(
    ("h", "s", "t", "said"),
    [
        ([0.0] * 20, 12, 0.05, r"s=12, t=0.05: s\*t = 0.6 < 1"),
        ([0.0] * 3, 2, 0.0, "t=0.0"),
        ([0.0] * 3, 2, -0.5, "t=-0.5"),
        ([0.0] * 3, 2, float("nan"), "t=nan"),
        ([0.0] * 3, 0, 1.0, "s=0"),
        ([0.0] * 3, 1.5, 1.0, "s=1.5"),
        ([0.0, float("nan")], 2, 1.0, r"h\[1\] = nan"),
        ([0.0, float("inf")], 2, 1.0, r"h\[1\] = inf"),
        ([], 1, 1.0, "empty"),
        ([[1.0]], 1, 1.0, "shape"),
    ],
)
def test_a_wrong_call_is_refused_with_its_numbers(h, s, t, said):
    with pytest.raises(ValueError, match=said):
        project(h, s, t)


def test_more_carriers_than_silos_are_judged_by_the_silos_there_are():
    with pytest.raises(ValueError, match=r"s=3, t=0\.2"):
        project([0.0] * 3, 12, 0.2)
