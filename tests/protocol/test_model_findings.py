"""A model as its author has it: complex parameters are learned, a mask of -inf stays, what is not done is said."""

import logging

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from scripted import ScriptedGrid, record_of, reply, stopped_clock

from fedlaw_flwr.protocol import gate
from fedlaw_flwr.protocol.layout import Layout
from fedlaw_flwr.protocol.model_findings import model_findings
from fedlaw_flwr.strategy import FedLAW, RuleStrategy

MASK = np.triu(np.full((3, 3), -np.inf, np.float32), 1)


def said(arrays, kind="note"):
    return "\n".join(found.what for found in model_findings(record_of(arrays)) if found.kind == kind)


def start(state, change, strategy, rounds=3, silos=8, losses=lambda arrays: 1.0):
    """A run in which every silo answers change(arrays); the final arrays and the events."""

    def answer(received):
        trained = None if received.reply == "loss" else change(received.silo, received.arrays)
        return reply(trained, losses(received.arrays) + 0.01 * received.silo, partition=received.silo)

    events = []
    strategy.on_event = lambda event: events.append(event.to_dict())
    with stopped_clock():
        result = strategy.start(ScriptedGrid([answer] * silos), record_of(state), num_rounds=rounds, timeout=30)
    return {key: array.numpy() for key, array in result.arrays.items()}, events


COMMON = {"max_byzantine": 1, "lr": 0.1, "startup_timeout": 5.0}


def strategies():
    return [RuleStrategy("fedavg", **COMMON), RuleStrategy("krum", **COMMON), FedLAW(beta=0.1, **COMMON)]


def like(strategy):
    """Another that was made as this one was."""
    return RuleStrategy(strategy.rule, **COMMON) if isinstance(strategy, RuleStrategy) else FedLAW(beta=0.1, **COMMON)


# -- complex numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["complex64", "complex128", ">c8"])
def test_complex_numbers_survive_the_rows_bit_for_bit_as_pairs_of_reals(dtype):
    numbers = np.random.default_rng(0)
    value = (numbers.normal(size=(2, 3)) + 1j * numbers.normal(size=(2, 3))).astype(dtype)
    record = record_of({"w": value, "b": np.float32([1, 2])})
    layout = Layout.of(record)
    model = layout.split(record)
    assert layout.num_parameters == 2 * 6 + 2
    assert layout.dtype == (np.float64 if dtype == "complex128" else np.float32)
    assert model.parameters[:2].tolist() == [value[0, 0].real, value[0, 0].imag]
    back = model.arrays()["w"]
    assert back.dtype == str(value.dtype)
    np.testing.assert_array_equal(back.numpy(), value)


def test_a_complex_array_stored_by_columns_lies_in_its_row_by_rows():
    value = np.asfortranarray(np.arange(6).reshape(2, 3) * (1 + 2j)).astype(np.complex64, order="F")
    record = record_of({"w": value})
    model = Layout.of(record).split(record)
    assert model.parameters[::2].tolist() == [0, 1, 2, 3, 4, 5]
    update = np.empty(12, np.float32)
    gate.read_update(reply({"w": np.asfortranarray(value + (1 - 1j))}), model, update)
    assert update.tolist() == [-1, 1] * 6


@pytest.mark.parametrize("strategy", strategies(), ids=lambda one: getattr(one, "rule", "fedlaw"))
def test_complex_parameters_are_learned_exactly_as_their_real_and_imaginary_parts_would_be(strategy):
    target = np.complex64([1 - 2j, 0.5 + 0.25j])

    def pull(silo, arrays):
        return {"w": (arrays["w"] - 0.1 * (arrays["w"] - target * (1 + 0.01 * silo))).astype(np.complex64)}

    def pull_reals(silo, arrays):
        return {"w": pull(silo, {"w": arrays["w"].view(np.complex64)})["w"].view(np.float32)}

    zero = np.zeros(2, np.complex64)
    learned, events = start({"w": zero}, pull, strategy)
    as_reals, _ = start({"w": zero.view(np.float32)}, pull_reals, like(strategy))
    np.testing.assert_array_equal(learned["w"].view(np.float32), as_reals["w"])
    assert np.all(np.abs(learned["w"] - target) < 0.8 * np.abs(target))
    assert not [event for event in events if event["kind"] in ("rejected", "warning")]


def test_a_complex_number_that_is_not_finite_is_rejected_by_the_gate():
    record = record_of({"w": np.ones(2, np.complex64)})
    model = Layout.of(record).split(record)
    with pytest.raises(gate.Rejected, match="'w' has a value that is not finite"):
        gate.read_update(reply({"w": np.complex64([1, complex(0, np.inf)])}), model, np.empty(4, np.float32))


# -- masks and other values that are not finite -----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", strategies(), ids=lambda one: getattr(one, "rule", "fedlaw"))
@pytest.mark.parametrize("key", ["attention.mask", "bn.running_mean"])
def test_a_mask_with_minus_infinity_stays_and_no_silo_is_rejected_for_it(strategy, key, caplog):
    state = {"w": np.zeros(2, np.float32), key: MASK}
    with caplog.at_level(logging.INFO, logger="flwr"):
        learned, events = start(state, lambda silo, arrays: {**arrays, "w": arrays["w"] + 1}, strategy)
    np.testing.assert_array_equal(learned[key], MASK)
    assert np.all(learned["w"] > 1)
    assert not [event for event in events if event["kind"] == "rejected"]
    (warning,) = [event for event in events if event["kind"] == "warning"]
    assert key in warning["reason"] and "stays as the server has it" in warning["reason"]
    assert sum(key in record.message for record in caplog.records if record.levelno == logging.WARNING) == 1


def test_what_a_silo_sends_for_a_fixed_array_changes_nothing_and_need_not_be_finite():
    record = record_of({"w": np.ones(2, np.float32), "mask": MASK})
    model = Layout.of(record).split(record)
    update = np.empty(2, np.float32)
    answer = {"w": np.zeros(2, np.float32), "mask": np.full((3, 3), np.nan, np.float32)}
    assert gate.read_update(reply(answer), model, update) == pytest.approx(2**0.5)
    np.testing.assert_array_equal(model.stepped(update).arrays()["mask"].numpy(), MASK)


def test_an_array_whose_values_do_not_fit_the_rows_is_fixed_like_one_that_is_infinite():
    state = {"w": np.ones(2, np.float32), "bn.running_var": np.array([1e300, 1.0])}
    kinds = {slot.key: slot.kind for slot in Layout.of(record_of(state)).slots}
    assert kinds == {"w": "parameter", "bn.running_var": "fixed"}
    assert "beyond float32" in said(state)


def test_finite_masks_of_any_size_are_learned_as_before():
    state = {"w": np.ones(2, np.float32), "mask": np.full(3, np.finfo(np.float32).min)}
    assert {slot.kind for slot in Layout.of(record_of(state)).slots} == {"parameter"}
    assert said(state) == ""


def test_nan_in_the_initial_model_is_said_as_what_it_most_likely_is():
    assert "the initial model is broken" in said({"w": np.ones(2, np.float32), "b": np.float32([np.nan])})
    with pytest.raises(ValueError, match="nothing to learn \\(w: not all values are finite\\)"):
        Layout.of(record_of({"w": np.float32([np.nan])}))


@pytest.mark.parametrize("strategy", strategies(), ids=lambda one: getattr(one, "rule", "fedlaw"))
def test_weights_under_two_keys_stay_equal(strategy):
    shared = np.float32([0.1, -0.7, 3e-5])
    state = {"embed.weight": shared, "scale": np.float32([1]), "head.weight": shared}

    def train(silo, arrays):
        np.testing.assert_array_equal(arrays["embed.weight"], arrays["head.weight"])
        tied = (arrays["embed.weight"] - 0.1 * (1 + 0.01 * silo) * arrays["embed.weight"]).astype(np.float32)
        return {**arrays, "embed.weight": tied, "head.weight": tied}

    learned, events = start(state, train, strategy)
    np.testing.assert_array_equal(learned["embed.weight"], learned["head.weight"])
    assert np.all(learned["head.weight"] != shared)
    assert not [event for event in events if event["kind"] in ("rejected", "warning")]


# -- other dtypes -----------------------------------------------------------------------------------------------------


def test_whole_numbers_and_truth_values_stay_and_only_batch_norms_counters_go_without_a_warning():
    whole = {"table": np.arange(3), "used": np.array([True, False])}
    state = {"w": np.ones(2, np.float32), "bn.num_batches_tracked": np.array(3), **whole}
    sentence = said(state)
    assert "table, used (bool, int64): only floats and complex numbers are learned" in sentence
    _, events = start(state, lambda silo, arrays: arrays, strategies()[0], rounds=1)
    (warning,) = [event["reason"] for event in events if event["kind"] == "warning"]
    assert "table, used" in warning and "num_batches_tracked" not in warning


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float128", "V2", "object", "no such thing"])
def test_a_dtype_that_no_row_can_hold_is_refused_before_the_first_round_in_one_sentence(dtype):
    record = ArrayRecord({"w": Array(np.ones(2, np.float32)), "head": Array(dtype, (2,), "numpy.ndarray", b"junk")})
    with pytest.raises(ValueError, match=f"^array 'head' is {dtype}: .* model.float"):
        Layout.of(record)
    (found,) = model_findings(record)
    assert found.kind == "wrong" and "\n" not in found.what


def test_a_variance_below_zero_ends_the_run_before_it_begins():
    state = {"w": np.ones(2, np.float32), "bn.running_var": np.float32([1, -1])}
    assert "'bn.running_var' has negative variances" in said(state, "wrong")
    with pytest.raises(ValueError, match=r"the initial model: 'bn\.running_var' has negative variances"):
        start(state, lambda silo, arrays: arrays, strategies()[0])


def test_no_sentence_names_more_than_a_few_of_many_arrays():
    state = {"w": np.ones(2, np.float32), **{f"mask.{number}": MASK for number in range(30)}}
    assert "mask.4 and 25 more: some values are infinite" in said(state)
