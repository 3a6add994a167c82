"""A state dict as rows of numbers: what counts as a parameter, nothing lost on the way, buffers combined apart."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import record_of

from fedlaw_flwr.protocol.layout import Layout, combine_buffers

# A model with everything in it: scalars, an empty array, batch norm, integers, and an order that is not alphabetic.
STATE = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
    "bn.running_mean": np.array([0.5, -0.5], np.float32),
    "bn.running_var": np.array([1.0, 2.0], np.float32),
    "bn.num_batches_tracked": np.array(7, np.int64),
    "bn.weight": np.array([1.5, 2.5], np.float32),
    "temperature": np.array(3.25, np.float32),
    "nothing": np.zeros((0, 3), np.float32),
    "labels": np.array([True, False]),
}


def kinds(arrays, **options):
    return {slot.key: slot.kind for slot in Layout.of(record_of(arrays), **options).slots}


def test_batch_norm_statistics_are_buffers_integers_are_fixed_and_all_other_floats_are_parameters():
    assert kinds(STATE) == {
        "conv.weight": "parameter",
        "bn.running_mean": "buffer",
        "bn.running_var": "buffer",
        "bn.num_batches_tracked": "fixed",
        "bn.weight": "parameter",
        "temperature": "parameter",
        "nothing": "parameter",
        "labels": "fixed",
    }
    layout = Layout.of(record_of(STATE))
    assert (layout.num_parameters, layout.num_buffers) == (24 + 2 + 1, 4)


def test_a_name_that_only_contains_a_batch_norm_name_is_a_parameter():
    names = ["running_mean_scale", "my_running_var", "running_var.weight", "running_mean"]
    found = kinds({name: np.ones(1, np.float32) for name in names})
    assert found == {**dict.fromkeys(names, "parameter"), "running_mean": "buffer"}


def test_the_pattern_of_buffers_is_a_setting_and_an_empty_one_makes_every_float_a_parameter():
    assert kinds(STATE, buffers=r"^temp")["temperature"] == "buffer"
    assert kinds(STATE, buffers=r"^temp")["bn.running_mean"] == "parameter"
    assert set(kinds(STATE, buffers="").values()) == {"parameter", "fixed"}


def test_a_pattern_that_is_no_regular_expression_is_refused_by_name():
    with pytest.raises(ValueError, match=r"buffers='\(' is no regular expression"):
        Layout.of(record_of(STATE), buffers="(")


@pytest.mark.parametrize(
    ("arrays", "count"),
    [
        ({}, 0),
        ({"bn.running_mean": np.ones(3, np.float32)}, 1),
        ({"steps": np.ones(3, np.int64)}, 1),
        ({"nothing": np.zeros((0, 3), np.float32)}, 1),
    ],
    ids=["no array", "buffers alone", "integers alone", "an empty array alone"],
)
def test_a_model_with_nothing_to_learn_is_refused(arrays, count):
    with pytest.raises(ValueError, match=f"no trainable float array among its {count}"):
        Layout.of(record_of(arrays))


@pytest.mark.parametrize(
    ("dtypes", "row"),
    [
        (["float16"], "float32"),
        (["float32"], "float32"),
        (["float16", "float64"], "float64"),
        ([">f4"], "float32"),
        ([">f8"], "float64"),
    ],
)
def test_a_state_dict_survives_the_rows_bit_for_bit_whatever_its_dtypes(dtypes, row):
    numbers = np.random.default_rng(0)
    state = {f"{i}.{d}": numbers.normal(size=(2, 3)).astype(d) for i, d in enumerate(dtypes)}
    state |= {"bn.running_var": np.array([0.1, 0.2], np.float32), "steps": np.array([1, -2], ">i4")}
    layout = Layout.of(record_of(state))
    back = layout.split(record_of(state)).arrays()
    assert layout.dtype == np.dtype(row)
    assert list(back) == list(state)
    for key, array in state.items():
        assert back[key].dtype == str(array.dtype) and back[key].shape == array.shape
        np.testing.assert_array_equal(back[key].numpy(), array)


def test_scalars_empty_arrays_and_integers_come_back_in_shape_and_order():
    back = Layout.of(record_of(STATE)).split(record_of(STATE)).arrays()
    assert list(back) == list(STATE)
    for key, array in STATE.items():
        assert back[key].numpy().shape == array.shape
        np.testing.assert_array_equal(back[key].numpy(), array)


def test_the_payload_is_what_flower_itself_makes_of_the_arrays():
    state = {**STATE, "half": np.ones(3, np.float16), "wave": np.ones((2, 2), np.complex64), "big": np.ones(2, ">f4")}
    record = record_of(state)
    back = Layout.of(record).split(record).arrays()
    for key, array in record.items():
        assert (back[key].data, back[key].dtype) == (array.data, array.dtype)
        assert (tuple(back[key].shape), back[key].stype) == (tuple(array.shape), array.stype)


def test_a_model_is_serialised_once_and_whoever_changes_the_record_changes_no_other():
    record = record_of(STATE)
    model = Layout.of(record).split(record)
    first, second = model.arrays(), model.arrays()
    assert all(first[key].data is second[key].data for key in STATE)
    del first["bn.weight"]
    assert list(second) == list(model.arrays()) == list(STATE)


def test_a_step_may_lie_where_the_next_parameters_will():
    record = record_of({"w": np.array([1.0, 2.0], np.float32)})
    step = np.array([0.25, 0.5], np.float32)
    model = Layout.of(record).split(record)
    following = model.stepped(step, out=step)
    assert following.parameters is step and following.parameters.tolist() == [0.75, 1.5]
    assert model.parameters.tolist() == [1, 2]


def test_an_array_stored_by_columns_lies_in_its_row_by_rows():
    state = {"w": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))}
    assert Layout.of(record_of(state)).split(record_of(state)).parameters.tolist() == [0, 1, 2, 3, 4, 5]


def test_the_model_shares_no_memory_with_what_it_was_made_from_or_turned_into():
    record = record_of({"w": np.ones(2, np.float32), "steps": np.array([1])})
    model = Layout.of(record).split(record)
    model.fixed["steps"][0] = 99
    model.parameters[0] = 99
    assert record["w"].numpy().tolist() == [1, 1] and record["steps"].numpy().tolist() == [1]
    following = model.stepped(np.array([1.0, 1.0]))
    assert model.parameters.tolist() == [99, 1] and following.parameters.tolist() == [98, 0]


def test_a_step_moves_parameters_alone_unless_buffers_are_given():
    layout = Layout.of(record_of(STATE))
    model = layout.split(record_of(STATE))
    moved = model.stepped(np.full(layout.num_parameters, 0.25))
    np.testing.assert_array_equal(moved.parameters, model.parameters - np.float32(0.25))
    np.testing.assert_array_equal(moved.buffers, model.buffers)
    assert moved.fixed["bn.num_batches_tracked"] == 7
    assert model.stepped(np.zeros(layout.num_parameters), np.full(4, 9.0, np.float32)).buffers.tolist() == [9] * 4


def test_a_step_is_taken_in_float64_and_rounded_once():
    record = record_of({"w": np.array([1.0], np.float32)})
    step = 2.0**-25 + 2.0**-50  # just over half of float32's spacing below 1; as a float32 exactly half, a tie to 1
    assert Layout.of(record).split(record).stepped(np.array([step])).parameters[0] == 1 - 2.0**-24


@pytest.mark.parametrize(("sent", "row"), [("float16", "float32"), ("float32", "float64")])
def test_the_server_s_model_is_to_the_bit_the_one_the_silos_receive(sent, row):
    """Else what a silo never moved would look like an update: the difference between two roundings of the model."""
    state = {"w": np.linspace(0, 1, 7).astype(sent)}
    if row == "float64":
        state["wide"] = np.linspace(0, 1, 7)
    layout = Layout.of(record_of(state))
    model = layout.split(record_of(state)).stepped(np.full(layout.num_parameters, 1e-9 + 1 / 3))
    assert layout.dtype == np.dtype(row)
    np.testing.assert_array_equal(layout.split(model.arrays()).parameters, model.parameters)


def layout_with(**buffers):
    return Layout.of(record_of({"w": np.ones(1, np.float32), **buffers}))


BATCH_NORM = layout_with(**{"bn.running_mean": np.zeros(2, np.float32), "bn.running_var": np.ones(2, np.float32)})


def test_buffers_are_combined_by_the_median_of_each_coordinate():
    rows = np.array([[0, 5, 1, 1], [1, -9, 2, 4], [1e30, 6, 3, 9]], np.float32)
    assert combine_buffers(BATCH_NORM, rows).tolist() == [1, 5, 2, 4]
    assert combine_buffers(BATCH_NORM, rows[:2]).tolist() == [0.5, -2, 1.5, 2.5]


def test_a_variance_never_falls_below_zero_and_a_mean_may():
    rows = np.array([[-1, -2, -3, -4]] * 3, np.float32)
    assert combine_buffers(BATCH_NORM, rows).tolist() == [-1, -2, 0, 0]


def test_two_buffers_near_the_largest_float_have_a_finite_median():
    rows = np.array([[3.0e38, 0, 1, 1], [3.4e38, 0, 1, 1]], np.float32)
    assert np.isfinite(combine_buffers(BATCH_NORM, rows)).all()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 4), st.integers(0, 2**32 - 1), st.floats(-(2.0**127), 2.0**127, width=32))
def test_fewer_than_half_of_the_silos_cannot_move_a_buffer_outside_the_honest_range(hostile, seed, value):
    honest = np.random.default_rng(seed).normal(size=(hostile + 1, 4)).astype(np.float32) ** 2
    combined = combine_buffers(BATCH_NORM, np.vstack([honest, np.full((hostile, 4), value, np.float32)]))
    assert np.all(combined >= honest.min(axis=0)) and np.all(combined <= honest.max(axis=0))


def test_an_array_the_server_itself_cannot_read_is_an_error_at_the_start():
    record = ArrayRecord({"w": Array("float32", (2,), "torch", b"junk")})
    with pytest.raises(TypeError, match="torch"):
        Layout.of(record).split(record)
