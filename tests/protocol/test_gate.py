"""The gate, met by replies a hostile silo would send: nothing wrong gets through, nothing right is turned away."""

import gc
import io
import pickle
import struct
import weakref

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import record_of, reply

from fedlaw_flwr.protocol.gate import (
    REVIEW,
    Rejected,
    read_alarms,
    read_claim,
    read_description,
    read_loss,
    read_review,
    read_update,
)
from fedlaw_flwr.protocol.layout import Layout

STATE = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bn.running_mean": np.zeros(2, np.float32),
    "bn.running_var": np.ones(2, np.float32),
    "bn.num_batches_tracked": np.array(3, np.int64),
    "scale": np.array(2.0, np.float32),
    "nothing": np.zeros((0, 3), np.float32),
}


def model_of(state):
    record = record_of(state)
    return Layout.of(record).split(record)


def read(content, state=STATE, buffers=True):
    """What the gate makes of a reply: (norm, delta, buffers)."""
    model = model_of(state)
    delta = np.full(model.layout.num_parameters, 99, model.layout.dtype)
    statistics = np.full(model.layout.num_buffers, 99, model.layout.dtype)
    return read_update(content, model, delta, statistics if buffers else None), delta, statistics


def saved(value, **options):
    stream = io.BytesIO()
    np.save(stream, value, **options)
    return stream.getvalue()


def npy(header, numbers=b"", version=b"\x01\x00"):
    """Bytes with a header written by hand: a dict for a well-formed one, or any text."""
    text = (header if isinstance(header, str) else repr(header)).encode("latin1")
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text + numbers


def raw(data, dtype="float32", shape=(2, 3), stype="numpy.ndarray"):
    return Array(dtype=dtype, shape=shape, stype=stype, data=data)


def with_array(key, array):
    record = record_of(STATE)
    record[key] = array
    return reply(record)


def refused(content, state=STATE, **options):
    """The reason for which the gate refuses a reply: one short line, whatever the silo wrote."""
    with pytest.raises(Rejected) as refusal:
        read(content, state, **options)
    reason = str(refusal.value)
    assert reason.isprintable() and 0 < len(reason) < 300, reason
    return reason


# -- what must get through ---------------------------------------------------------------------------------------


def test_the_update_is_the_model_minus_the_reply_and_its_norm_leaves_buffers_and_integers_out():
    answer = {key: value.copy() for key, value in STATE.items()}
    answer["w"] = answer["w"] - np.float32(3)
    answer["scale"] = np.array(6.0, np.float32)
    answer["bn.running_mean"] = np.array([1e6, -1e6], np.float32)
    answer["bn.running_var"] = np.array([-5, 7], np.float32)
    answer["bn.num_batches_tracked"] = np.array(10**12, np.int64)
    norm, delta, statistics = read(reply(answer))
    assert delta.tolist() == [3, 3, 3, 3, 3, 3, -4]
    assert norm == pytest.approx(np.sqrt(6 * 9 + 16), rel=1e-15)
    assert statistics.tolist() == [1e6, -1e6, -5, 7]  # a variance below 0 is the median's business, which keeps it >= 0


def test_a_reply_that_is_the_model_itself_is_an_update_of_zero():
    norm, delta, _ = read(reply(STATE))
    assert norm == 0 and not delta.any()


def test_reading_changes_neither_the_model_nor_the_reply():
    model, content = model_of(STATE), reply({k: v + 1 if v.dtype.kind == "f" else v for k, v in STATE.items()})
    before = {key: array.data for key, array in content["arrays"].items()}
    delta = np.zeros(7, np.float32)
    read_update(content, model, delta)
    delta[:] = 99
    assert {key: array.data for key, array in content["arrays"].items()} == before
    np.testing.assert_array_equal(model.parameters, model_of(STATE).parameters)


def test_keys_in_another_order_are_the_same_reply():
    shuffled = {key: STATE[key] + 1 if STATE[key].dtype.kind == "f" else STATE[key] for key in reversed(STATE)}
    assert read(reply(shuffled))[1].tolist() == [-1] * 7


@pytest.mark.parametrize("shape", [(2, 3), (3, 2, 4), (1, 5), (5, 1), (7,)])
def test_an_array_stored_by_columns_is_read_by_rows(shape):
    numbers = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    state = {"w": np.zeros(shape, np.float32)}
    by_columns = raw(saved(np.asfortranarray(numbers)), shape=shape)
    delta = read(reply(ArrayRecord({"w": by_columns})), state)[1]
    np.testing.assert_array_equal(delta, -numbers.reshape(-1))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f2", ">f4", ">f8"])
def test_models_of_every_float_type_and_byte_order_are_read_exactly(dtype):
    state = {"w": np.array([1, 2, 4], dtype)}
    norm, delta, _ = read(reply({"w": np.array([0.5, 2.25, -4], dtype)}), state)
    assert delta.tolist() == [0.5, -0.25, 8] and norm == pytest.approx(np.sqrt(0.25 + 0.0625 + 64), rel=1e-15)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float16, np.float32, np.float64]))
def test_the_update_agrees_with_numpy_s_own_reading_of_the_bytes(seed, dtype):
    numbers = np.random.default_rng(seed)
    state = {"a": numbers.normal(size=(3, 4)).astype(dtype), "b": numbers.normal(size=5).astype(dtype)}
    content = reply({"a": np.asfortranarray(numbers.normal(size=(3, 4)).astype(dtype)), "b": state["b"] * dtype(2)})
    norm, delta, _ = read(content, state)
    row = np.float64 if dtype is np.float64 else np.float32
    expected = [state[k].astype(row) - content["arrays"][k].numpy().astype(row) for k in ("a", "b")]
    np.testing.assert_array_equal(delta, np.concatenate([part.reshape(-1) for part in expected]))
    assert norm == pytest.approx(np.linalg.norm(delta.astype(np.float64)), rel=1e-12)


def test_what_the_reply_says_of_its_arrays_beside_the_bytes_is_not_believed():
    honest = saved(STATE["w"] + 1)
    assert read(with_array("w", raw(honest, dtype="object", shape=(10**6, 10**6))))[1][:6].tolist() == [-1] * 6


def test_the_largest_update_a_float32_can_hold_has_a_finite_norm():
    norm, _, _ = read(reply({"w": np.full(4, -3e38, np.float32)}), {"w": np.zeros(4, np.float32)})
    assert norm == pytest.approx(6e38, rel=1e-6)


def test_claims_of_size_are_not_read_at_all():
    for examples in (10**12, -5, 0):
        content = reply(STATE, examples=examples)
        assert read(content)[0] == 0 and read_loss(content, "loss", 0.0) == 1.0


# -- arrays that must not ----------------------------------------------------------------------------------------


def test_a_missing_array_an_extra_one_and_another_s_name_are_refused_by_name():
    assert refused(reply({k: v for k, v in STATE.items() if k != "w"})) == "array 'w' is missing (1 of 6 are)"
    assert refused(reply({**STATE, "backdoor": np.ones(1)})) == "array 'backdoor' is not one of the model's (1 are not)"
    assert "is missing" in refused(reply({**{k: v for k, v in STATE.items() if k != "w"}, "W": STATE["w"]}))
    assert "is missing (6 of 6 are)" in refused(reply({}))


@pytest.mark.parametrize(
    ("prefix", "wrapper"),
    [
        ("_orig_mod.", "torch.compile"),
        ("module.", "DataParallel"),
        ("_module.", "Opacus"),
        ("_orig_mod.module.", "torch.compile and DataParallel"),
    ],
)
def test_keys_behind_the_prefix_of_a_wrapper_are_refused_with_what_to_send(prefix, wrapper):
    wrapped = {f"{prefix}{key}": value for key, value in STATE.items()}
    said = f"the keys sent begin with {prefix!r}, as {wrapper} has them; send model.{prefix}state_dict()"
    assert refused(reply(wrapped)).endswith(f"is missing (6 of 6 are): {said}")
    said = (
        f"the server's own keys begin with {prefix!r}, as {wrapper} has them; make the initial model of model.{prefix}"
    )
    assert f"is missing (6 of 6 are): {said}state_dict()" in refused(reply(STATE), wrapped)
    assert read(reply(wrapped), wrapped)[0] == 0  # a model whose own keys are such is no mistake
    deep = {"module." * 10**5 + key: value for key, value in STATE.items()}
    assert refused(reply(deep)).endswith("is missing (6 of 6 are)")
    short = {key: value for key, value in wrapped.items() if not key.endswith(".w") and not key.endswith("scale")}
    assert refused(reply(short)).endswith("is missing (6 of 6 are)")  # other arrays are missing as well


def test_the_wrappers_are_those_of_pytorch():
    import torch

    net = torch.nn.Linear(2, 2)
    sent = record_of({key: value.numpy() for key, value in torch.compile(net).state_dict().items()})
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    assert "torch.compile has them; send model._orig_mod.state_dict()" in refused(reply(sent), state)
    sent = record_of({key: value.numpy() for key, value in torch.nn.DataParallel(net).state_dict().items()})
    assert "DataParallel has them; send model.module.state_dict()" in refused(reply(sent), state)


def test_an_extra_array_cannot_write_its_name_into_the_log():
    assert "'x\\nround 9: all is well'" in refused(reply({**STATE, "x\nround 9: all is well": np.ones(1)}))
    refused(reply({**STATE, "x" * 10**6: np.ones(1)}))


def test_exactly_one_array_record_is_expected():
    assert refused(reply()) == "0 ArrayRecords where one is expected"
    two = reply(STATE)
    two["more"] = record_of(STATE)
    assert refused(two) == "2 ArrayRecords where one is expected"


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (STATE["w"].reshape(3, 2), "shape (3, 2)"),
        (STATE["w"].reshape(6), "shape (6,)"),
        (STATE["w"].reshape(1, 2, 3), "shape (1, 2, 3)"),
        (STATE["w"].astype(">f4"), "dtype >f4"),
        (STATE["w"].astype(np.int32), "dtype int32"),
        (STATE["w"].view(np.uint32), "dtype uint32"),
        (STATE["w"].astype(np.float64), "dtype float64"),
        (STATE["w"].astype(np.float16), "dtype float16"),
        (STATE["w"][:1], "shape (1, 3)"),
        (np.zeros((2, 3), "S4"), "dtype |S4"),
        (np.zeros((2, 3), [("a\nb", "<f4")]), "dtype [('a\\nb', '<f4')]"),
    ],
)
def test_another_shape_or_dtype_is_refused_even_where_the_bytes_would_fit(value, word):
    assert word in refused(reply({**STATE, "w": value}))


def test_an_array_that_only_the_server_owns_is_held_to_its_form_too():
    assert "dtype int32" in refused(reply({**STATE, "bn.num_batches_tracked": np.array(3, np.int32)}))
    assert "shape (1,)" in refused(reply({**STATE, "bn.num_batches_tracked": np.array([3])}))


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a reply was unpickled",))


def test_pickled_objects_are_never_loaded():
    objects = np.empty((2, 3), object)
    objects[:] = Bomb()
    for data in (saved(objects, allow_pickle=True), pickle.dumps(Bomb())):
        refused(with_array("w", raw(data)))
    small = np.empty((2, 3), object)
    small[:] = None
    header = {"descr": "|O", "fortran_order": False, "shape": (2, 3)}
    assert "dtype object" in refused(with_array("w", raw(npy(header, pickle.dumps(small)))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x01\x00\xff\xff",
        bytes(40),
        b"PK\x03\x04" + bytes(40),
        saved(STATE["w"])[:40],
        saved(STATE["w"])[:-1],
        saved(STATE["w"]) + b"\0",
        saved(STATE["w"]) + bytes(10_000),
        npy("not a dictionary", bytes(24)),
        npy("{'descr': '<f4'}", bytes(24)),
        npy("{'descr': '<f4', 'fortran_order': 1, 'shape': (2, 3)}", bytes(24)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': [2, 3]}", bytes(24)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3.0)}", bytes(24)),
        npy("{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (2, 3)}", bytes(24)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3)}", bytes(24)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'x': 1}", bytes(24)),
        npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1, 3)}", bytes(24)),
        npy("{'descr': ('<f4', (10**9,)), 'fortran_order': False, 'shape': (2, 3)}", bytes(24)),
        npy("{'descr': ('<f4', (1000000000,)), 'fortran_order': False, 'shape': (2, 3)}", bytes(24)),
        npy("-" * 4000 + "1", version=b"\x02\x00"),
        npy("(" * 4000, version=b"\x02\x00"),
        npy("\xff\xfe" * 50, bytes(24), version=b"\x03\x00"),
        npy({"descr": [(f"{i:050}", "<f4") for i in range(40)], "fortran_order": False, "shape": (2, 3)}, bytes(24)),
        npy({"descr": "<f4", "fortran_order": False, "shape": (1,) * 900}, bytes(24)),
    ],
    ids=lambda data: repr(data[:70]),
)
def test_bytes_that_are_no_array_of_the_model_s_form_are_refused(data):
    assert "'w'" in refused(with_array("w", raw(data)))


def test_a_header_that_claims_a_million_million_numbers_is_refused_before_any_memory_is_taken():
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
    assert "shape (1000000, 1000000)" in refused(with_array("w", raw(npy(header, bytes(24)))))


def test_more_bytes_than_the_array_can_have_are_refused_unread():
    reason = refused(with_array("w", raw(bytes(50_000_000))))
    assert reason == "array 'w' has 50000000 bytes where about 24 are expected"


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.data())
def test_no_bytes_get_past_the_gate_except_as_the_numbers_numpy_reads_in_them(data):
    """Honest bytes with a few of them overwritten, or cut: refused, or read as NumPy reads them."""
    honest = bytearray(saved(STATE["w"]))
    for _ in range(data.draw(st.integers(1, 4))):
        honest[data.draw(st.integers(0, len(honest) - 1))] = data.draw(st.integers(0, 255))
    junk = bytes(honest[: data.draw(st.sampled_from([len(honest), 80, 128, 150]))])
    try:
        _, delta, _ = read(with_array("w", raw(junk)))
    except Rejected:
        return
    as_numpy_reads_it = np.load(io.BytesIO(junk), allow_pickle=False)
    assert as_numpy_reads_it.shape == (2, 3) and as_numpy_reads_it.dtype == np.float32
    np.testing.assert_array_equal(delta[:6], (STATE["w"] - as_numpy_reads_it).reshape(-1))


def test_another_serialisation_than_numpy_s_is_refused():
    assert "'torch\\n'" in refused(with_array("w", raw(saved(STATE["w"]), stype="torch\n")))


# -- numbers that must not ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key", ["w", "scale", "bn.running_mean", "bn.running_var"])
def test_one_number_that_is_not_finite_is_enough(bad, key):
    value = STATE[key].copy()
    value.reshape(-1)[-1] = bad
    assert f"array {key!r} has a value that is not finite" in refused(reply({**STATE, key: value}))


@pytest.mark.parametrize("key", ["bn.running_mean", "bn.running_var"])
def test_buffers_are_checked_in_exchange_2_as_well_where_they_are_not_kept(key):
    refused(reply({**STATE, key: np.array([np.nan, 1], np.float32)}), buffers=False)


def test_finite_numbers_whose_difference_overflows_are_refused():
    state = {"v": np.zeros(2, np.float32), "w": np.full(3, -3e38, np.float32)}
    answer = {"v": np.zeros(2, np.float32), "w": np.full(3, 3e38, np.float32)}
    assert refused(reply(answer), state) == "array 'w' has a value that is not finite"


def test_a_float64_update_whose_squares_overflow_is_refused_for_what_it_is():
    reason = refused(reply({"w": np.full(3, 1e200)}), {"w": np.zeros(3)})
    assert reason == "the update is so large that its norm is not finite"


def test_a_float64_buffer_beyond_float32_is_not_an_infinite_buffer_of_a_float32_model():
    state = {"w": np.zeros(2, np.float32), "bn.running_var": np.ones(2)}
    assert "'bn.running_var' has a value that is not finite in float32" in refused(
        reply({**state, "bn.running_var": np.array([1.0, 1e300])}), state
    )
    assert read(reply({**state, "bn.running_var": np.array([1.0, 1e30])}), state)[2][1] == np.float32(1e30)


# -- losses and claims -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [0.0, -0.0, 1e-300, 3, 1e30, np.float64(2.5)])
def test_any_finite_number_from_the_floor_up_is_a_loss(loss):
    assert read_loss(reply(loss=loss), "loss", 0.0) == loss


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (-1e-9, "the loss -1e-09 is below the floor 0"),
        (-(10**12), "the loss -1e+12 is below the floor 0"),
        (float("nan"), "the loss is nan"),
        (float("inf"), "the loss is inf"),
        (float("-inf"), "the loss is -inf"),
        (1.7e308, "the loss 1.7e+308 is beyond 1e+30"),
        (10**400, "the loss is beyond the largest float"),
        ([1.0, 2.0], "no number under the loss key 'loss' (metrics: 'loss', 'num-examples')"),
        ([], "no number under the loss key 'loss' (metrics: 'loss', 'num-examples')"),
    ],
)
def test_no_other_loss_is(loss, reason):
    with pytest.raises(Rejected) as refusal:
        read_loss(reply(loss=loss), "loss", 0.0)
    assert str(refusal.value) == reason


@pytest.mark.parametrize("value", [True, "0.1", b"0.1", None])
def test_a_loss_that_is_no_number_is_refused_even_if_flower_should_let_it_through(value):
    content = reply(loss=1.0)
    content["metrics"].__dict__["_data"]["loss"] = value
    with pytest.raises(Rejected, match="no number under the loss key"):
        read_loss(content, "loss", None)


def test_the_floor_is_a_setting_and_without_one_losses_may_be_negative_but_not_infinite():
    assert read_loss(reply(loss=-7.0), "loss", None) == -7
    assert read_loss(reply(loss=-7.0), "loss", -8.0) == -7
    with pytest.raises(Rejected, match="below the floor -6"):
        read_loss(reply(loss=-7.0), "loss", -6.0)
    with pytest.raises(Rejected, match="the loss is -inf"):
        read_loss(reply(loss=float("-inf")), "loss", None)


def test_the_loss_is_found_under_the_key_the_app_gives_it_and_the_reason_names_what_there_was_instead():
    assert read_loss(reply(loss=0.5, loss_key="train_loss"), "train_loss", 0.0) == 0.5
    with pytest.raises(Rejected) as refusal:
        read_loss(reply(loss=0.5, loss_key="train_loss"), "loss", 0.0)
    assert str(refusal.value) == "no number under the loss key 'loss' (metrics: 'num-examples', 'train_loss')"
    with pytest.raises(Rejected, match="metrics: none"):
        read_loss(RecordDict({"metrics": MetricRecord()}), "loss", 0.0)


def test_metrics_cannot_write_their_names_into_the_log():
    content = RecordDict({"metrics": MetricRecord({"a\nround 9: all is well": 1.0, "\x1b[2J": 1.0, "z" * 10**5: 1})})
    with pytest.raises(Rejected) as refusal:
        read_loss(content, "loss", 0.0)
    assert str(refusal.value).isprintable() and len(str(refusal.value)) < 300


def test_exactly_one_metric_record_is_expected():
    with pytest.raises(Rejected, match="0 MetricRecords"):
        read_loss(reply(STATE, loss=None), "loss", 0.0)
    two = reply(STATE)
    two["more"] = MetricRecord({"loss": 0.0})
    with pytest.raises(Rejected, match="2 MetricRecords"):
        read_loss(two, "loss", 0.0)


@pytest.mark.parametrize(("claim", "heard"), [(0, 0), (7, 7), (2**31 - 1, 2**31 - 1)])
def test_a_partition_a_silo_says_it_is_is_heard(claim, heard):
    assert read_claim(reply(STATE, partition=claim)) == heard


@pytest.mark.parametrize("claim", [-1, 2**31, 10**18, True, False, "3", b"3", 3.0, [3], [True]])
def test_a_claim_that_is_no_partition_counts_as_none_and_does_not_cost_the_reply(claim):
    content = reply(STATE, partition=claim)
    assert read_claim(content) is None and read(content)[0] == 0


def test_a_reply_without_a_claim_or_with_the_claim_in_another_record_says_nothing():
    assert read_claim(reply(STATE)) is None
    assert read_claim(RecordDict({"metrics": MetricRecord({"partition-id": 3})})) is None
    assert read_claim(RecordDict({"a": ConfigRecord({}), "b": ConfigRecord({"partition-id": 3})})) == 3


# -- memory ------------------------------------------------------------------------------------------------------


def test_a_reply_is_gone_once_read_without_waiting_for_the_garbage_collector():
    """Else many replies of a large model lie in memory beside the matrix they were decoded into."""
    model, delta = model_of(STATE), np.zeros(7, np.float32)
    gc.collect()
    gc.disable()
    try:
        content = reply(STATE, partition=3)
        seen = weakref.ref(content["arrays"])
        read_loss(content, "loss", 0.0)
        read_update(content, model, delta)
        read_claim(content)
        del content
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "said",
    [
        "[]",
        "not json",
        '{"column age": 3}',
        "[" * 60000,
        '{"a": "' + "x" * 70000 + '"}',
        7,
        b"{}",
        ["{}"],
    ],
)
def test_a_description_that_is_none_says_nothing(said):
    assert read_description(RecordDict({"description": ConfigRecord({"description": said})})) is None


def test_a_description_is_read_from_whatever_record_holds_it():
    said = ConfigRecord({"task": "points", "description": '{"column age": "years"}'})
    assert read_description(RecordDict({"arrays": ArrayRecord(), "x": said})) == {"column age": "years"}


def test_alarms_are_short_texts_of_one_line_and_never_more_than_twenty():
    said = ConfigRecord({"alarms": ["'age' is\nmostly missing", "x" * 1000, *(["y"] * 50)]})
    found = read_alarms(RecordDict({"description": said}))
    assert found[0] == "'age' is mostly missing" and len(found) == 20 and all(len(text) <= 204 for text in found)
    assert read_alarms(RecordDict({"description": ConfigRecord({"alarms": "all"})})) == []
    assert read_alarms(RecordDict({"arrays": ArrayRecord()})) == []


# -- reviews -------------------------------------------------------------------------------------------------------

GRADIENT = {
    "w": np.array([[1.0, -4.0, 2.0], [0.0, 0.5, 3.0]], np.float32),
    "scale": np.array(-2.0, np.float32),
    "nothing": np.zeros((0, 3), np.float32),
}


def with_review(gradient):
    content = reply(record_of(STATE))
    content[REVIEW] = record_of(gradient)
    return content


def reviewed(gradient, dtype=np.float16):
    row = np.full(7, 99, dtype)
    return read_review(with_review(gradient), model_of(STATE).layout, row), row


def unreviewed(gradient):
    with pytest.raises(Rejected) as refusal:
        reviewed(gradient)
    reason = str(refusal.value)
    assert reason.isprintable() and reason.startswith("review: ") and len(reason) < 300
    return reason


@pytest.mark.parametrize("factor", [1.0, 1e-30, 1e30])
def test_a_review_is_kept_up_to_its_length_so_that_no_dtype_overflows(factor):
    norm, row = reviewed({key: (value * np.float32(factor)) for key, value in GRADIENT.items()})
    expected = np.array([1.0, -4, 2, 0, 0.5, 3, -2]) / 4
    np.testing.assert_allclose(row, expected, rtol=1e-3)
    assert norm == pytest.approx(np.linalg.norm(expected), rel=1e-3)


def test_a_review_of_zero_has_the_norm_zero_and_buffers_in_it_are_not_read():
    norm, row = reviewed({key: np.zeros_like(value) for key, value in GRADIENT.items()})
    assert norm == 0 and not row.any()
    whole = {**STATE, **GRADIENT, "bn.running_mean": np.full(2, np.nan, np.float32)}
    assert reviewed(whole)[0] == reviewed(GRADIENT)[0]


def test_a_review_beside_the_weights_is_no_second_set_of_weights_where_one_was_asked_for():
    content, model = with_review(GRADIENT), model_of(STATE)
    row, buffers = np.empty(model.layout.num_parameters, np.float32), np.empty(model.layout.num_buffers, np.float32)
    assert read_update(content, model, row, buffers, with_review=True) == 0
    with pytest.raises(Rejected, match="2 ArrayRecords where one is expected"):
        read_update(content, model, row, buffers)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"w": None}, "array 'w' is missing (1 of 3 are)"),
        ({"v": np.zeros(2, np.float32)}, "array 'v' is not one of the model's"),
        ({"w": np.zeros((3, 2), np.float32)}, "has shape (3, 2), the model's is (2, 3)"),
        ({"w": np.zeros((2, 3))}, "has dtype float64, the model's is float32"),
        ({"scale": np.array(np.inf, np.float32)}, "'scale' has a value that is not finite"),
        ({"w": np.full((2, 3), np.nan, np.float32)}, "'w' has a value that is not finite"),
    ],
)
def test_a_review_of_anything_else_than_the_parameters_has_no_voice(change, words):
    gradient = {key: value for key, value in {**GRADIENT, **change}.items() if value is not None}
    assert words in unreviewed(gradient)


def test_no_review_and_another_record_of_its_name_are_said_to_be_none():
    layout, row = model_of(STATE).layout, np.empty(7)
    for content in (reply(record_of(STATE)), reply(record_of(STATE))):
        with pytest.raises(Rejected, match="it sends no review"):
            read_review(content, layout, row)
        content[REVIEW] = ConfigRecord({"a": 1})


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=200)
def test_whatever_bytes_a_review_is_made_of_the_gate_says_why_or_takes_finite_numbers(data):
    content = with_review(GRADIENT)
    content[REVIEW]["w"] = raw(data)
    row = np.zeros(7, np.float16)
    try:
        norm = read_review(content, model_of(STATE).layout, row)
    except Rejected as reason:
        assert str(reason).isprintable()
    else:
        assert np.isfinite(norm) and np.isfinite(row).all()
