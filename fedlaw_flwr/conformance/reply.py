"""Checks of what a reply is made of: answered, addressed, its records, arrays, loss and size, in both exchanges."""

import math

import numpy as np
from flwr.app import ArrayRecord, RecordDict

from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.conformance.probe import NoAnswer, Probe
from fedlaw_flwr.protocol import gate
from fedlaw_flwr.protocol.gate import Rejected
from fedlaw_flwr.protocol.layout import Model

# What the gate says of a reply's arrays, and what its author can do about it.
_REMEDIES = (
    ("is missing", "reply every array of the message, under the key it came with"),
    ("is not one of the model's", "reply the arrays of the message and no others"),
    ("is serialised as", "make each with flwr.app.Array(ndarray), or all with ArrayRecord(state_dict)"),
    ("does not start as np.save", "make each with flwr.app.Array(ndarray), or all with ArrayRecord(state_dict)"),
    ("has shape", "reply each array in the shape it came in"),
    ("has dtype", "cast each array back to the dtype it came in, array.astype(received.dtype)"),
    ("expected", "reply each array in the shape and dtype it came in, serialised by flwr.app.Array(ndarray)"),
    ("finite", "its training diverged: lower lr, or look for missing values in the data"),
)

# What a client raises, and what its author can do about it.
_CURES = (
    ("Not all values are of valid type", "Flower's records take Python's own numbers alone: write float(loss)"),
    ("BFloat16", "NumPy and Flower have no bfloat16: reply tensor.float(), and begin with a model in float32"),
    ("it raised", "the error is the client's own: mend it in the function registered with @app.train()"),
    ("it gave no answer within", "train for less time, or allow more (--seconds)"),
)


def answers(probe: Probe) -> Finding:
    """Whether exchange 1 is answered at all."""
    if failure := probe.first.failure:
        unregistered = "register a function with @app.train() that returns Message(content, reply_to=message)"
        known = (cure for said, cure in _CURES if said in failure and "function registered" not in failure)
        return wrong(f"exchange 1 is not answered: {failure}; {next(known, unregistered)}")
    return ok(f"exchange 1 is answered, in {probe.first.seconds:.2f} s")


def addressed(probe: Probe) -> Finding:
    """Whether the reply is one to the message."""
    if not probe.first.reply_to:
        return wrong("the reply is not addressed to the message; return Message(content, reply_to=message)")
    return ok("the reply is addressed to the message")


def records(probe: Probe) -> Finding:
    """Whether the reply has exactly one ArrayRecord and one MetricRecord."""
    content = probe.content(probe.first)
    arrays = sum(isinstance(record, ArrayRecord) for record in content.values())
    if arrays != 1:
        return wrong(f"{arrays} ArrayRecords where one is expected; reply the trained weights in one, under `arrays`")
    try:
        gate.read_metrics(content)
    except Rejected as reason:
        return wrong(f"{reason}; reply loss and num-examples in one, under `metrics`")
    return ok("one ArrayRecord and one MetricRecord")


def arrays(probe: Probe) -> Finding:
    """Whether keys, shapes, dtypes and values of the arrays pass the gate."""
    layout = probe.model.layout
    try:
        _pass_gate(probe, probe.content(probe.first))
    except Rejected as reason:
        remedy = next(remedy for said, remedy in _REMEDIES if said in str(reason))
        return wrong(f"{reason}; {remedy}")
    return ok(f"{len(layout.slots)} arrays as they came, {layout.num_parameters} parameters, all of them finite")


def loss(probe: Probe) -> Finding:
    """Whether the loss passes the gate."""
    terms = probe.terms
    try:
        found = gate.read_loss(probe.content(probe.first), terms.loss_key, terms.loss_floor)
    except Rejected as reason:
        least = "" if terms.loss_floor is None else f" of at least {terms.loss_floor:g}"
        return wrong(
            f"{reason}; reply the mean loss over the silo's records, a finite number{least}, under "
            f"{terms.loss_key!r}, or name its key (--loss-key)"
        )
    return ok(f"the loss is a number, {found:.6g}")


def num_examples(probe: Probe) -> Finding:
    """Whether the reply says how many records it is from."""
    try:
        found = gate.read_size(probe.content(probe.first))
    except Rejected as reason:
        return wrong(f"{reason}; reply how many records were trained on under 'num-examples'")
    return ok(f"num-examples is {found:g}; it gives the silo no more weight")


def untouched(probe: Probe) -> Finding:
    """Whether the message's own arrays are as they were."""
    if key := probe.first.changed:
        return wrong(
            f"array {key!r} of the message itself was changed; copy before training: in a simulation the next silo "
            "gets the same record"
        )
    return ok("the message's own arrays are left as they are")


def exchange_2(probe: Probe) -> Finding:
    """Whether exchange 2, at the trial model, is answered as exchange 1 is."""
    try:
        found = probe.read(probe.second, probe.trial)
    except (NoAnswer, Rejected) as reason:
        return wrong(
            f"exchange 2 gets no usable reply: {reason}; it is exchange 1 with another model, and a silo that does "
            "not answer it loses its weight"
        )
    return ok(f"exchange 2 is answered, in {probe.second.seconds:.2f} s, its loss is {found.loss:.6g}")


def loss_only(probe: Probe) -> Finding:
    """Whether a message that asks for the loss alone gets the loss that comes with the update."""
    answer = probe.ask(probe.trial.arrays(), {"exchange": 2, "reply": "loss"})
    try:
        found = probe.read_loss(answer)
    except (NoAnswer, Rejected) as reason:
        return wrong(f"reply=loss gets no usable loss: {reason}; reply the MetricRecord, with or without arrays")
    expected = probe.read_loss(probe.second)
    if not _same(found, expected):
        losses = [expected, *(probe.read_loss(probe.ask(probe.trial.arrays(), {"exchange": 2})) for _ in range(3))]
        if not all(_same(loss, expected) for loss in losses):
            return _among(found, losses)
        return wrong(
            f"reply=loss gets {found:.9g} and reply=update {expected:.9g} for the same message; take the loss the "
            "same way, or train and send all: arrays with reply=loss are right too"
        )
    sent = any(isinstance(record, ArrayRecord) for record in probe.content(answer).values())
    return ok(f"reply=loss gets the same loss, {'and the arrays, which is right too' if sent else 'without arrays'}")


def review(probe: Probe) -> Finding:
    """Whether a message that asks for a review gets one that passes the gate, and points where the loss rises."""
    answer = probe.ask(probe.model.arrays(), {"reply": gate.REVIEW})
    try:
        content = probe.content(answer)
        probe.read(answer, probe.model, with_review=True)
    except (NoAnswer, Rejected) as reason:
        return wrong(f"reply=review gets no usable reply: {reason}; reply as to reply=update, with or without a review")
    if gate.REVIEW not in content:
        return note(
            "reply=review gets the update without a review: with peer review (variant=review) the silo is judged and "
            "has no voice"
        )
    layout = probe.model.layout
    row = np.empty(layout.num_parameters)
    try:
        norm = gate.read_review(content, layout, row)
        balanced = gate.read_loss(content, gate.BALANCED_LOSS, probe.terms.loss_floor)
    except Rejected as reason:
        return wrong(
            f"{reason}; reply the gradient of the class-balanced loss in a record 'review', an array for each "
            f"parameter, and that loss under {gate.BALANCED_LOSS!r}"
        )
    if norm > 0:
        # A step along the gradient must raise the client's own loss at first: compare its loss at two models near by.
        theta = float(np.linalg.norm(probe.model.parameters.astype(np.float64)))
        step = row * (1e-3 * max(theta, 1.0) / norm)
        here, there = probe.model.stepped(-step), probe.model.stepped(step)
        up, down = (_balanced_loss(probe, model) for model in (here, there))
        if up is not None and down is not None and up < down:
            return wrong(
                f"a step along the review lowers {gate.BALANCED_LOSS!r} ({up:.9g}) and one against it raises it "
                f"({down:.9g}): reply the gradient itself, not the step that lowers the loss"
            )
    return ok(f"reply=review gets a review of {layout.num_parameters} numbers and {gate.BALANCED_LOSS} {balanced:.6g}")


def _balanced_loss(probe: Probe, model: Model) -> float | None:
    """The class-balanced loss that the client reports of this model; None where it reports none."""
    try:
        content = probe.content(probe.ask(model.arrays(), {"reply": gate.REVIEW}))
        return gate.read_loss(content, gate.BALANCED_LOSS, probe.terms.loss_floor)
    except (NoAnswer, Rejected):
        return None


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-12)


def _among(found: float, losses: list[float]) -> Finding:
    """What the loss asked for alone tells where the same message never gets the same loss."""
    spread = max(losses) - min(losses)
    said = f"reply=loss gets {found:.6g}, and reply=update {min(losses):.6g} to {max(losses):.6g} for one message"
    if min(losses) - 3 * spread <= found <= max(losses) + 3 * spread:
        return note(f"{said}: the loss is drawn by chance; take it over all records, before training")
    return wrong(f"{said}; take the loss the same way, or train and send all: arrays with reply=loss are right too")


def _pass_gate(probe: Probe, content: RecordDict) -> None:
    layout = probe.model.layout
    row, buffers = np.empty(layout.num_parameters, layout.dtype), np.empty(layout.num_buffers, layout.dtype)
    gate.read_update(content, probe.model, row, buffers)
