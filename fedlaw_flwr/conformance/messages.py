"""Checks of what a client does with a message that is not as expected: unknown keys, missing or wrong arrays, NaN."""

import warnings

import numpy as np
from flwr.app import Array, ArrayRecord

from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.conformance.asking import Answer
from fedlaw_flwr.conformance.probe import NoAnswer, Probe
from fedlaw_flwr.ledger.heads import LEDGER_HEAD, Head
from fedlaw_flwr.ledger.keys import ServerKey
from fedlaw_flwr.protocol.gate import Rejected


def unknown_key(probe: Probe) -> Finding:
    """Whether a config key that the client does not know is ignored."""
    try:
        probe.read(probe.ask(probe.model.arrays(), {"a-later-setting": "anything"}), probe.model)
    except (NoAnswer, Rejected) as reason:
        return wrong(f"an unknown config key gets no usable reply: {reason}; ignore keys you do not know")
    return ok("an unknown config key is ignored")


def ledger_head(probe: Probe) -> Finding:
    """Whether a message that brings the head of the server's ledger is answered: it may be kept, or ignored."""
    key = ServerKey.fresh()
    head = Head.signed(key, "0" * 32, 1, 0, False, 1, "0" * 64)
    try:
        probe.read(probe.ask(probe.model.arrays(), {LEDGER_HEAD: head.text()}), probe.model)
    except (NoAnswer, Rejected) as reason:
        return wrong(f"a message with the head of the server's ledger gets no usable reply: {reason}; ignore it")
    return ok("the head of the server's ledger is ignored, or kept")


def no_arrays(probe: Probe) -> Finding:
    """Whether a message without a model is refused."""
    return _refused(probe, probe.ask(None), "a message without arrays")


def missing_array(probe: Probe) -> Finding:
    """Whether a model of which one array is missing is refused."""
    arrays = probe.model.arrays()
    key = list(arrays)[-1]
    return _refused(
        probe, probe.ask(ArrayRecord({k: v for k, v in arrays.items() if k != key})), f"a model without {key!r}"
    )


def wrong_shape(probe: Probe) -> Finding:
    """Whether arrays of another shape are refused: one that would broadcast to the right one, and one too long."""
    arrays = probe.model.arrays()
    key = next((k for k in reversed(list(arrays)) if int(np.prod(arrays[k].shape)) > 1), list(arrays)[-1])
    value = arrays[key].numpy()
    shapes = {(1,) * value.ndim: value.reshape(-1)[:1], (value.size + 1,): np.zeros(value.size + 1)}
    found = ok("")
    for shape, values in shapes.items():
        if shape == value.shape:
            continue
        changed = ArrayRecord({**arrays, key: Array(values.astype(value.dtype).reshape(shape))})
        found = _refused(probe, probe.ask(changed), f"{key!r} in shape {shape} where it is {value.shape}")
        if found.kind != "ok":
            break
    return found


def nan_model(probe: Probe) -> Finding:
    """What becomes of a model of NaN: no answer, or one that the gate rejects."""
    nan = probe.model.stepped(np.full(probe.model.parameters.size, np.nan))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = probe.ask(nan.arrays())
    if answer.failure:
        return ok(f"a model of NaN is refused: {answer.failure}")
    try:
        probe.read(answer, probe.model)
    except Rejected as reason:
        return ok(f"a model of NaN gets a reply that the server rejects: {reason}")
    return wrong("a model of NaN gets finite weights and a finite loss; let NaN through, or raise: do not replace it")


def exchange_3(probe: Probe) -> Finding:
    """What becomes of an exchange that there is not."""
    answer = probe.ask(probe.model.arrays(), {"exchange": 3})
    return note(f"exchange 3, which there is not, {_fate(probe, answer)}; no server asks for it")


def no_lr(probe: Probe) -> Finding:
    """What becomes of a message that names no step, or the step 0."""
    without = _fate(probe, probe.ask(probe.model.arrays(), {"lr": None}))
    nothing = _fate(probe, probe.ask(probe.model.arrays(), {"lr": 0.0}))
    return note(f"a message without lr {without}; with lr=0 it {nothing}; our server always names one above 0")


def _refused(probe: Probe, answer: Answer, what: str) -> Finding:
    """ok where there is an error in place of a reply; wrong where the server would believe the reply."""
    if answer.failure.startswith("it gave no answer"):
        return wrong(f"{what} hangs the client: {answer.failure}; raise, so that the server need not wait")
    if answer.failure:
        return ok(f"{what} is refused: {answer.failure}")
    try:
        probe.read(answer, probe.model)
    except Rejected as reason:
        return note(f"{what} gets a reply, which the server rejects ({reason}); better raise: the log says more")
    return wrong(f"{what} gets a reply as if nothing were the matter; check what is received, and raise")


def _fate(probe: Probe, answer: Answer) -> str:
    if answer.failure:
        return f"is refused ({answer.failure})"
    try:
        reply = probe.read(answer, probe.model)
    except Rejected as reason:
        return f"gets a reply that the server rejects ({reason})"
    return f"is answered, {reply.norm:.3g} from the model"
