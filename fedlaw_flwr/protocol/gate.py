"""The one gate every reply passes before a number of it is used: keys, shapes, dtypes, size, finite values, loss."""

import io
import json
import math
from collections.abc import Mapping, Set
from typing import Any, TypeVar, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedlaw_flwr.core import blocks
from fedlaw_flwr.protocol.layout import Layout, Model, Slot
from fedlaw_flwr.protocol.text import single_line

REVIEW = "review"
"""The name of a reply's record with its review, beside the trained weights."""
BALANCED_LOSS = "balanced-loss"
"""Under which a reply with a review has its class-balanced loss."""
BY_CLASS = "accuracy-by-class"
"""Under which metrics have the accuracy of each class, a list with NaN for a class without examples."""
NUM_EXAMPLES = "num-examples"
"""Under which a reply's metrics have the number of examples that a silo claims, as Flower's own strategies read it."""

# np.save writes at most this much before the numbers of a plain array (header of 64 to 128 bytes, and room).
_HEADER = 4096
_SHOWN = 60
_LONGEST_DESCRIPTION = 2**16
MOST_CLASSES = 1000
"""Of how many classes the accuracy is read at most."""
_MOST_ALARMS, _LONGEST_ALARM = 20, 200
# What wrappers of PyTorch modules put before every key of a state dict.
_WRAPPERS = {"_orig_mod.": "torch.compile", "module.": "DataParallel", "_module.": "Opacus"}
# No loss of any use is larger, and scores made of such losses stay finite.
_LARGEST_LOSS = 1e30
_Record = TypeVar("_Record", ArrayRecord, MetricRecord)


class Rejected(ValueError):
    """A reply that breaks the protocol; its text is the reason, for the ledger and for people."""


def read_loss(content: RecordDict, key: str, floor: float | None) -> float:
    """The loss of the reply's one MetricRecord.

    Args:
        content: The reply.
        key: The name under which the metrics have the loss.
        floor: The least loss that is allowed; None: any.

    Raises:
        Rejected: If there is no MetricRecord or several, or no number under `key`, or if the loss is not finite, beyond
            1e30 or below the floor.
    """
    return loss_in(only(content, MetricRecord), key, floor)


def loss_in(metrics: Mapping[str, Any], key: str, floor: float | None) -> float:
    """The loss among these metrics of one reply.

    Args:
        metrics: The metrics by name.
        key: The name under which they have the loss.
        floor: The least loss that is allowed; None: any.

    Raises:
        Rejected: As `read_loss` does.
    """
    value = metrics.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        found = ", ".join(repr(name[:_SHOWN]) for name in sorted(metrics)[:3])
        raise Rejected(f"no number under the loss key {key!r} (metrics: {found or 'none'})")
    try:
        loss = float(value)
    except OverflowError as error:  # an int of 10**400
        raise Rejected("the loss is beyond the largest float") from error
    if not math.isfinite(loss):
        raise Rejected(f"the loss is {loss}")
    if abs(loss) > _LARGEST_LOSS:
        raise Rejected(f"the loss {loss:.6g} is beyond {_LARGEST_LOSS:g}")
    if floor is not None and loss < floor:
        raise Rejected(f"the loss {loss:.6g} is below the floor {floor:g}")
    return loss


def read_size(content: RecordDict) -> float:
    """The number of examples that a silo claims: `num-examples` of the reply's one MetricRecord.

    Args:
        content: The reply.

    Raises:
        Rejected: If there is no MetricRecord or several, or if `num-examples` is no finite number of at least 0.
    """
    value = only(content, MetricRecord).get(NUM_EXAMPLES)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Rejected("no number under 'num-examples', which size-cap weighs by")
    try:
        size = float(value)
    except OverflowError as error:
        raise Rejected("num-examples is beyond the largest float") from error
    if not (math.isfinite(size) and size >= 0):
        raise Rejected(f"num-examples is {size:g}: a finite number of at least 0 is expected")
    return size


def read_metrics(content: RecordDict) -> dict[str, float]:
    """The finite numbers of the reply's one MetricRecord, by name. Numbers beyond 1e30 are left out.

    Args:
        content: The reply.

    Raises:
        Rejected: If there is no MetricRecord or several.
    """
    metrics = only(content, MetricRecord)
    return {
        key: float(value)
        for key, value in metrics.items()
        if isinstance(value, int | float) and abs(value) <= _LARGEST_LOSS
    }


def read_by_class(content: RecordDict) -> list[float | None] | None:
    """The accuracy of each class that a silo reports: the list `accuracy-by-class` of its metrics.

    A value outside [0, 1], NaN among them, says that the silo holds no example of the class.

    Args:
        content: The reply.

    Returns:
        A value for each class; None where the silo reports no list of numbers, or more than 1000.

    Raises:
        Rejected: If there is no MetricRecord or several.
    """
    values = only(content, MetricRecord).get(BY_CLASS)
    if not isinstance(values, list) or not 0 < len(values) <= MOST_CLASSES:
        return None
    return [float(value) if 0 <= value <= 1 else None for value in values]


def read_description(content: RecordDict) -> dict[str, str] | None:
    """What a silo says it learns: the JSON object of texts under `description`; None if it says nothing of the kind."""
    for record in content.values():
        text = record.get("description") if isinstance(record, ConfigRecord) else None
        if not isinstance(text, str) or len(text) > _LONGEST_DESCRIPTION:
            continue
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
            return found
    return None


def read_alarms(content: RecordDict) -> list[str]:
    """What a silo says is odd about its data: the texts under `alarms`, one line each, 20 at most; a claim like any."""
    for record in content.values():
        found = record.get("alarms") if isinstance(record, ConfigRecord) else None
        if isinstance(found, list):
            return [single_line(text, _LONGEST_ALARM) for text in found[:_MOST_ALARMS] if isinstance(text, str)]
    return []


def read_claim(content: RecordDict) -> int | None:
    """The partition a silo says it is, in simulation; None if it says nothing usable. A claim, never a credential."""
    for record in content.values():
        value = record.get("partition-id") if isinstance(record, ConfigRecord) else None
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31:
            return value
    return None


def read_review(content: RecordDict, layout: Layout, gradient: NDArray[np.floating]) -> float:
    """Writes the review r, the gradient of the silo's class-balanced loss at the model sent out, into `gradient`.

    The record `review` has an array for every parameter, in its shape and dtype. Arrays of buffers and of what is fixed
    may be there and are not read. The row gets r / max |r_k|, which no smaller dtype can overflow; support and ranks do
    not depend on its length.

    Args:
        content: The reply.
        layout: The layout of the model that was sent out.
        gradient: The row that r / max |r_k| is written to, (d,).

    Returns:
        The l2 norm of the row; 0 for a gradient of 0.

    Raises:
        Rejected: If there is no such record, if its keys, shapes, dtypes or sizes are not those of the parameters, or
            if a value is not finite. The row may then hold anything.
    """
    arrays = content.get(REVIEW)
    if not isinstance(arrays, ArrayRecord):
        raise Rejected("it sends no review")
    known = {slot.key for slot in layout.slots}
    needed = {slot.key for slot in layout.slots if slot.kind == "parameter"}
    if missing := needed - set(arrays):
        raise Rejected(f"review: array {min(missing)!r} is missing ({len(missing)} of {len(needed)} are)")
    if extra := set(arrays) - known:
        raise Rejected(f"review: array {min(extra)[:_SHOWN]!r} is not one of the model's ({len(extra)} are not)")
    parts, largest, squares = [], 0.0, 0.0
    for slot in layout.slots:
        if slot.kind != "parameter":
            continue
        try:
            values = cast(blocks.Floats, slot.reals(_decode(arrays[slot.key], slot)))
        except Rejected as reason:
            raise Rejected(f"review: {reason}") from None
        peak = max(float(np.max(values, initial=0)), -float(np.min(values, initial=0)))  # NaN where there is one
        if not math.isfinite(peak):
            raise Rejected(f"review: array {slot.key!r} has a value that is not finite")
        largest = max(largest, peak)
        parts.append((slot.where, values))
    for where, values in parts:
        squares += blocks.scaled(values, largest, gradient[where])
    return math.sqrt(squares)


def read_update(
    content: RecordDict,
    model: Model,
    update: NDArray[np.floating],
    buffers: NDArray[np.floating] | None = None,
    with_review: bool = False,
) -> float:
    """Writes delta = theta - psi of the reply's one ArrayRecord into `update`, and its buffers into `buffers`.

    Args:
        content: The reply.
        model: The model that was sent out, theta.
        update: The row that delta is written to, (d,).
        buffers: The row that the buffers are written to, (p,); None: they are checked and not kept. Default: None.
        with_review: Whether a review was asked for, so that an ArrayRecord of that name is not counted. Default: no.

    Returns:
        The l2 norm of delta.

    Raises:
        Rejected: If there is no ArrayRecord or several, or if its keys, shapes, dtypes or sizes are not those of the
            model's layout, or if a parameter, a buffer or the norm is not finite. The rows may then hold anything.
    """
    arrays = only(content, ArrayRecord, but=REVIEW if with_review else "")
    _check_keys(arrays, model.layout)
    parts = []
    with np.errstate(over="ignore", invalid="ignore"):
        for slot in model.layout.slots:
            values = _decode(arrays[slot.key], slot)
            if slot.kind == "fixed":  # the server's stays, whatever was sent
                continue
            values = slot.reals(values)
            if slot.kind == "parameter":
                parts.append((slot.where, cast(blocks.Floats, values)))
            else:
                values = values.astype(model.layout.dtype, copy=False)  # a float64 buffer may not fit a float32 row
                if not np.all(np.isfinite(values)):
                    raise Rejected(f"array {slot.key!r} has a value that is not finite in {model.layout.dtype}")
                if buffers is not None:
                    buffers[slot.where] = values
        norm = blocks.subtract(model.parameters, parts, update)
    if not math.isfinite(norm):
        raise Rejected(_why_no_norm(update, model.layout))
    return norm


def only(content: RecordDict, kind: type[_Record], but: str = "") -> _Record:
    """The reply's one record of this kind, one of the name `but` not counted.

    Raises:
        Rejected: If there is none, or if there are several.
    """
    # Not `content.array_records`: what it returns refers to itself and to the content, so the reply would stay in
    # memory until the garbage collector comes by, and many replies with it.
    records = [record for name, record in content.items() if isinstance(record, kind) and not (but and name == but)]
    if len(records) != 1:
        raise Rejected(f"{len(records)} {kind.__name__}s where one is expected")
    return records[0]


def _check_keys(arrays: ArrayRecord, layout: Layout) -> None:
    expected, sent = layout.keys, set(arrays)
    if sent == expected:
        return
    missing, extra = expected - sent, sent - expected
    if missing:
        wrapped = _about_a_wrapper(sent, expected)
        raise Rejected(f"array {sorted(missing)[0]!r} is missing ({len(missing)} of {len(expected)} are){wrapped}")
    if extra:
        raise Rejected(f"array {sorted(extra)[0][:_SHOWN]!r} is not one of the model's ({len(extra)} are not)")


def _about_a_wrapper(sent: Set[str], expected: Set[str]) -> str:
    """What to do where one side's keys are the other's behind the prefix of a wrapper; empty where they are not."""
    if (prefix := _prefix(sent, expected)) is not None:
        return (
            f": the keys sent begin with {prefix!r}, as {_wrappers(prefix)} has them; send model.{prefix}state_dict()"
        )
    if (prefix := _prefix(expected, sent)) is not None:
        made = f"make the initial model of model.{prefix}state_dict()"
        return f": the server's own keys begin with {prefix!r}, as {_wrappers(prefix)} has them; {made}"
    return ""


def _prefix(names: Set[str], others: Set[str]) -> str | None:
    """The prefix of one or more wrappers without which the names are the others; None where there is none."""
    prefix = ""
    if len(names) != len(others):
        return None
    for _ in _WRAPPERS:  # nobody wraps deeper, and a hostile key may go on for ever
        prefix += next((w for w in _WRAPPERS if all(name.startswith(prefix + w) for name in names)), "")
        if prefix and {name.removeprefix(prefix) for name in names} == others:
            return prefix
    return None


def _wrappers(prefix: str) -> str:
    return " and ".join(_WRAPPERS[f"{part}."] for part in prefix.split(".")[:-1])


def _decode(array: Array, slot: Slot) -> NDArray[np.generic]:
    """The numbers of one array, flat, as a view of the reply's bytes; header and size are checked before any use."""
    if array.stype != "numpy.ndarray":
        raise Rejected(f"array {slot.key!r} is serialised as {array.stype[:_SHOWN]!r}, not 'numpy.ndarray'")
    size, data, header = slot.size * slot.dtype.itemsize, array.data, slot.header
    if len(data) == len(header) + size and data.startswith(header):  # as np.save writes it: nothing to parse
        return np.frombuffer(data, slot.dtype, -1, len(header))
    if not size < len(array.data) <= size + _HEADER:
        raise Rejected(f"array {slot.key!r} has {len(array.data)} bytes where about {size} are expected")
    stream = io.BytesIO(array.data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read_header(stream)
    except Exception as error:  # whatever a header of junk raises in NumPy's parser is the sender's doing
        raise Rejected(f"array {slot.key!r} does not start as np.save writes it") from error
    if tuple(shape) != slot.shape:
        raise Rejected(f"array {slot.key!r} has shape {str(shape)[:_SHOWN]}, the model's is {slot.shape}")
    if dtype != slot.dtype:
        raise Rejected(f"array {slot.key!r} has dtype {str(dtype)[:_SHOWN]}, the model's is {slot.dtype}")
    start = stream.tell()
    if len(array.data) - start != size:
        raise Rejected(f"array {slot.key!r} has {len(array.data) - start} bytes of numbers, {size} are expected")
    values = np.frombuffer(array.data, dtype=dtype, offset=start)
    return values.reshape(shape[::-1]).T.reshape(-1) if by_columns and len(shape) > 1 else values


def _why_no_norm(update: NDArray[np.floating], layout: Layout) -> str:
    for slot in layout.slots:
        if slot.kind == "parameter" and not np.all(np.isfinite(update[slot.where])):
            return f"array {slot.key!r} has a value that is not finite"
    return "the update is so large that its norm is not finite"
