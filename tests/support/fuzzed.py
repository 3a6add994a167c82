"""Replies that a hostile silo might send: a valid one changed in its records, arrays, headers and bytes."""

import io
import struct

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as Proto  # pylint: disable=no-name-in-module
from hypothesis import strategies as st
from scripted import record_of

from fedlaw_flwr.protocol.gate import BALANCED_LOSS, REVIEW

STATE = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bn.running_mean": np.zeros(2, np.float32),
    "bn.num_batches_tracked": np.array(3, np.int64),
    "scale": np.array(2.0, np.float32),
}
GRADIENT = {"w": np.full((2, 3), 0.5, np.float32), "scale": np.array(-1.0, np.float32)}

_NAMES = ("w", "scale", "bn.running_mean", "bn.num_batches_tracked", "W", "", "module.w", "x\ny", "é" * 40)
_DTYPES = ("<f4", ">f4", "<f8", "<f2", "<i8", "<c8", "|O", "|S4", "<U9", "|b1", "float32", "m8[s]", "V12")
_NUMBERS = (
    0,
    -1,
    2**31,
    2**63,
    10**400,
    0.0,
    -0.0,
    1e30,
    1.1e30,
    -1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    0.7,
)


def valid() -> RecordDict:
    """A reply with an update and a review, as an honest silo sends it."""
    content = RecordDict(
        {
            "arrays": record_of({key: value + 1 if value.dtype.kind == "f" else value for key, value in STATE.items()}),
            "metrics": MetricRecord({"loss": 0.7, BALANCED_LOSS: 0.6, "num-examples": 10}),
            "silo": ConfigRecord({"partition-id": 3}),
        }
    )
    content[REVIEW] = record_of(GRADIENT)
    return content


def as_bytes(content: RecordDict) -> bytes:
    """A reply as it travels."""
    return bytes(recorddict_to_proto(content).SerializeToString())


def from_bytes(data: bytes) -> RecordDict | None:
    """The reply in these bytes; None where Flower itself cannot read them."""
    try:
        return recorddict_from_proto(Proto.FromString(data))
    except Exception:  # whatever Flower raises, the server never sees such a reply
        return None


def _saved(value) -> bytes:
    stream = io.BytesIO()
    np.save(stream, value)
    return stream.getvalue()


def _npy(header: str, numbers: bytes, version: bytes) -> bytes:
    text = header.encode("latin1", "replace")
    return (
        b"\x93NUMPY"
        + version
        + struct.pack("<H" if version == b"\x01\x00" else "<I", len(text) % 65536)
        + text
        + numbers
    )


@st.composite
def _array(draw) -> Array:
    """An array: numbers of some dtype and shape, a header written by hand, or honest bytes with some overwritten."""
    how = draw(st.sampled_from(["numbers", "header", "bytes", "raw"]))
    if how == "numbers":
        shape = draw(st.sampled_from([(2, 3), (3, 2), (6,), (), (2,), (1,), (0, 3), (2, 3, 1)]))
        dtype = draw(st.sampled_from(["<f4", ">f4", "<f8", "<f2", "<i8", "<i4", "<c8", "|b1"]))
        fill = draw(st.sampled_from([0.0, 1.0, np.nan, np.inf, -3e38, 1e-45, 6e4]))
        with np.errstate(all="ignore"):
            data = _saved(np.full(shape, fill).astype(dtype))
    elif how == "header":
        shape = draw(
            st.sampled_from(
                ["(2, 3)", "()", "(2,)", "(-2, 3)", "(10**9,)", "(1000000000000,)", "[2, 3]", "None", "(2.0,)"]
            )
        )
        dtype, order = draw(st.sampled_from(_DTYPES)), draw(st.sampled_from(["False", "True", "1", "None"]))
        header = f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}}}"
        data = _npy(
            header,
            draw(st.binary(max_size=40)),
            draw(st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x09"])),
        )
    elif how == "bytes":
        honest = bytearray(_saved(STATE["w"] + 1))
        for _ in range(draw(st.integers(1, 6))):
            honest[draw(st.integers(0, len(honest) - 1))] = draw(st.integers(0, 255))
        data = bytes(honest[: draw(st.integers(0, len(honest)))])
    else:
        data = draw(st.binary(max_size=200))
    stype = draw(st.sampled_from(["numpy.ndarray"] * 8 + ["pickle", ""]))
    return Array(dtype="float32", shape=(2, 3), stype=stype, data=data)


def _metric():
    number = st.one_of(st.sampled_from(_NUMBERS), st.integers(-(2**63), 2**63 - 1), st.floats())
    return st.one_of(number, st.lists(st.floats(), max_size=3))


@st.composite
def replies(draw) -> RecordDict:
    """A valid reply after one to four changes."""
    content = valid()
    for _ in range(draw(st.integers(1, 4))):
        record = draw(st.sampled_from(["arrays", REVIEW, "metrics", "silo", "more", "description"]))
        change = draw(
            st.sampled_from(
                ["array", "array", "array", "drop", "rename", "number", "number", "double", "empty", "text"]
            )
        )
        found = content.get(record)
        if change == "array" and isinstance(found, ArrayRecord):
            found[draw(st.sampled_from(_NAMES))] = draw(_array())
        elif change == "number" and isinstance(found, MetricRecord):
            value = draw(_metric())
            name = draw(st.sampled_from(["loss", BALANCED_LOSS, "num-examples", "accuracy", ""]))
            try:
                found[name] = value
            except (TypeError, ValueError):  # Flower's own record takes no such value
                continue
        elif change == "drop" and isinstance(found, ArrayRecord | MetricRecord) and len(found):
            del found[draw(st.sampled_from(sorted(found)))]
        elif change == "drop" and record in content:
            del content[record]
        elif change == "rename" and found is not None:
            content[draw(st.sampled_from(["arrays2", REVIEW, "x"]))] = content.pop(record)
        elif change == "double" and found is not None:
            content[draw(st.sampled_from(["more", REVIEW, "arrays"]))] = found
        elif change == "empty":
            content[record] = draw(st.sampled_from([ArrayRecord, MetricRecord, ConfigRecord]))()
        elif change == "text":
            text = draw(st.sampled_from(["", "{", "[" * 5000, '{"a": 1}', '{"a": "b"}', "x\ny"]))
            values = {
                "description": text,
                "alarms": draw(st.lists(st.text(max_size=5), max_size=30)),
                "partition-id": draw(st.integers(-5, 2**40)),
            }
            content[record] = ConfigRecord(values)
    return content


@st.composite
def travelled(draw) -> RecordDict | None:
    """A changed reply as it arrives, some of its bytes overwritten on the way; None where Flower cannot read it.

    Nor can Flower send every reply that its records hold: an integer of more than 64 bits never leaves the silo.
    """
    reply = draw(replies())
    try:
        data = bytearray(as_bytes(reply))
    except ValueError:
        return None
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return from_bytes(bytes(data))
