"""Silos' metrics by weight: a silo that lies moves a bounded one by its share at most, and a median hardly at all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlaw_flwr.core.reported import by_class, together, weighted_median

NAMES = [f"silo {i}" for i in range(8)]
shares = st.lists(st.floats(0.01, 1.0), min_size=8, max_size=8)
accuracies = st.lists(st.floats(0.0, 1.0), min_size=8, max_size=8)
anything = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(accuracies, shares, st.integers(0, 7), anything)
def test_a_silo_that_lies_moves_a_bounded_metric_by_no_more_than_its_weight(told, w, liar, lie):
    weights = dict(zip(NAMES, w, strict=True))
    truth = dict(zip(NAMES, told, strict=True))
    share = w[liar] / sum(w)
    for name in ("accuracy", "validation-auc", "F1 score"):
        honest = together(name, truth, weights)
        lied = together(name, {**truth, NAMES[liar]: lie}, weights)
        if share >= 0.5:  # the rest is no majority: nothing holds
            continue
        if 0 <= lie <= 1:
            assert abs(lied.shown - honest.shown) <= share + 1e-9
        else:  # as if it had said nothing
            others = {silo: value for silo, value in truth.items() if silo != NAMES[liar]}
            assert lied.shown == pytest.approx(together(name, others, weights).shown)
            assert abs(lied.shown - honest.shown) <= share / (1 - share) * 1.0 + 1e-9


@given(st.lists(st.floats(0.0, 100.0), min_size=8, max_size=8), shares, st.integers(0, 7), anything)
def test_a_silo_that_lies_about_a_loss_leaves_what_is_shown_within_what_the_others_say(told, w, liar, lie):
    if w[liar] * 2 >= sum(w):
        return
    weights = dict(zip(NAMES, w, strict=True))
    lied = together("loss", {**dict(zip(NAMES, told, strict=True)), NAMES[liar]: lie}, weights)
    others = [value for silo, value in zip(NAMES, told, strict=True) if silo != NAMES[liar]]
    assert min(others) <= lied.shown <= max(others)
    assert lied.shown == lied.median


def test_a_mean_of_losses_is_moved_at_will_and_is_not_what_is_shown():
    told = dict.fromkeys(NAMES, 0.5) | {"silo 3": 1e30}
    found = together("loss", told, None)
    assert found.shown == found.median == 0.5 and found.mean > 1e28 and found.spread == 0


def test_a_silo_without_weight_moves_nothing():
    weights = dict.fromkeys(NAMES, 1.0) | {"silo 3": 0.0}
    told = {name: 0.5 + i / 100 for i, name in enumerate(NAMES)}
    for name in ("accuracy", "loss"):
        assert together(name, told, weights) == together(name, {**told, "silo 3": 0.0}, weights)
    assert together("accuracy", {"silo 3": 1.0}, weights) is None
    assert together("accuracy", {"unknown": 1.0}, weights) is None


def test_by_hand():
    found = together("accuracy", {"a": 0.8, "b": 0.6, "c": 0.1}, {"a": 0.5, "b": 0.3, "c": 0.2})
    assert found.mean == found.shown == pytest.approx(0.5 * 0.8 + 0.3 * 0.6 + 0.2 * 0.1)
    assert found.median == pytest.approx(0.7)  # half of the weight is at or below 0.6
    assert found.spread == pytest.approx(0.1)


def test_a_metric_with_the_name_of_a_share_that_most_report_otherwise_is_not_taken_for_one():
    percent = {"a": 80.0, "b": 60.0, "c": 0.9}
    assert together("accuracy", percent, None).shown == 60.0
    assert together("perplexity-f10", {"a": 0.5, "b": 0.5, "c": 7.0}, None).mean == pytest.approx(8 / 3)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12))
def test_with_equal_weights_the_weighted_median_is_the_median(values):
    assert weighted_median(np.array(values), np.ones(len(values))) == pytest.approx(np.median(values))


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 5)), min_size=1, max_size=10))
def test_a_whole_weight_counts_as_so_many_silos(pairs):
    repeated = [value for value, times in pairs for _ in range(times)]
    if not repeated:
        return
    x, w = np.array([float(value) for value, _ in pairs]), np.array([float(times) for _, times in pairs])
    assert weighted_median(x, w) == pytest.approx(np.median(repeated))


# -- class by class ------------------------------------------------------------------------------------------------


def test_a_class_is_measured_by_the_silos_that_hold_it():
    told = {"a": [1.0, 0.5, None], "b": [0.0, None, None], "c": [0.9, 0.9, 0.9]}
    weights = {"a": 0.75, "b": 0.25, "c": 0.0}
    assert by_class(told, weights) == (pytest.approx(0.75), pytest.approx(0.5), None)
    assert by_class(told, None) == (pytest.approx(1.9 / 3), pytest.approx(0.7), pytest.approx(0.9))


def test_lists_of_another_length_than_most_weight_tells_are_not_counted():
    told = {"a": [1.0, 0.5], "b": [0.8, 0.7], "c": [0.0] * 900}
    assert by_class(told, {"a": 0.4, "b": 0.4, "c": 0.2}) == (pytest.approx(0.9), pytest.approx(0.6))
    assert by_class({}, None) is None and by_class({"c": [0.5]}, {"a": 1.0}) is None
