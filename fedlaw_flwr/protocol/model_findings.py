"""What a strategy will and will not do with a model: `start()`, `fedlaw check` and `fedlaw preflight` say the same."""

import re
from collections.abc import Iterable, Iterator

import numpy as np
from flwr.app import ArrayRecord

from fedlaw_flwr.core.findings import Finding, note, ok, wrong
from fedlaw_flwr.protocol.layout import BATCH_NORM, Layout, Slot

_NAMES = 5  # more keys than this in a sentence are no longer read


def model_findings(arrays: ArrayRecord, buffers: str = BATCH_NORM) -> Iterator[Finding]:
    """What becomes of the arrays of this state dict; a finding is "wrong" where no run should begin from it.

    Args:
        arrays: The state dict, as it is sent to the silos.
        buffers: The pattern of the keys of buffers, as in the setting.
    """
    try:
        layout = Layout.of(arrays, buffers)
    except (TypeError, ValueError) as error:
        yield wrong(" ".join(str(error).split()))
    else:
        yield from findings_of(layout, arrays)


def findings_of(layout: Layout, arrays: ArrayRecord) -> Iterator[Finding]:
    """The same of a state dict whose layout is known."""
    slots = {kind: [slot for slot in layout.slots if slot.kind == kind] for kind in ("parameter", "buffer", "fixed")}
    learned = slots["parameter"]
    yield ok(f"{sum(slot.size for slot in learned)} parameters in {len(learned)} arrays")
    if pairs := [slot for slot in learned if slot.is_complex]:
        yield note(f"each complex number is learned as two reals: {_keys(pairs)}")
    if slots["buffer"]:
        yield note(
            f"{layout.num_buffers} numbers in {len(slots['buffer'])} buffers (batch norm): the server combines them by "
            "the coordinate-wise median, not by weight; group norm has none"
        )
    if counters := [slot for slot in slots["fixed"] if _counts_batches(slot)]:
        yield note(f"whole numbers stay as the server has them, whatever silos send: {_keys(counters)}")
    for sentence in not_learned(layout, arrays):
        yield note(sentence)
    for slot in slots["buffer"]:
        if slot.is_variance and bool(np.any(arrays[slot.key].numpy() < 0)):
            yield wrong(f"{slot.key!r} has negative variances")


def not_learned(layout: Layout, arrays: ArrayRecord) -> Iterator[str]:
    """A sentence for each kind of array that Flower's FedAvg would average and that stays as the server has it here."""
    fixed = [slot for slot in layout.slots if slot.kind == "fixed" and slot.size and not _counts_batches(slot)]
    wild = [slot for slot in fixed if not slot.is_finite]
    broken = [slot for slot in wild if np.isnan(arrays[slot.key].numpy()).any()]
    if broken:
        yield (
            f"{_keys(broken)}: some values are NaN, so the array is not learned and stays as the server has it; "
            "if it is a weight, the initial model is broken, and every loss will be NaN as well"
        )
    if masks := [slot for slot in wild if slot not in broken]:
        yield (
            f"{_keys(masks)}: some values are infinite, as in an attention mask, or beyond {layout.dtype}, so the "
            "array is not learned and stays as the server has it; Flower's FedAvg would average it"
        )
    if whole := [slot for slot in fixed if slot.is_finite]:
        kinds = ", ".join(sorted({str(slot.dtype) for slot in whole}))
        yield (
            f"{_keys(whole)} ({kinds}): only floats and complex numbers are learned, so the array stays as the server "
            "has it; Flower's FedAvg would average it"
        )


def _counts_batches(slot: Slot) -> bool:
    """Whether it is batch norm's counter, whole numbers that nobody expects to be learned."""
    return slot.is_finite and re.search(BATCH_NORM, slot.key) is not None


def _keys(slots: Iterable[Slot]) -> str:
    keys = [slot.key for slot in slots]
    return ", ".join(keys[:_NAMES]) + (f" and {len(keys) - _NAMES} more" if len(keys) > _NAMES else "")
