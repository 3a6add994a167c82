"""Checks that what is replied is the trained weights, and that they were trained by plain SGD with the step lr."""

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.conformance.probe import NoAnswer, Probe, Reply
from fedlaw_flwr.protocol.gate import Rejected
from fedlaw_flwr.protocol.layout import Model

# Steps lr / 100 and lr / 1000 are where training is linear; shorter ones where it is not yet, longer ones where
# float16 or a small lr loses what shorter ones do.
_DIVISORS = (100, 10_000, 10, 1)
# Fewer coordinates than this may be equally long by accident.
_FEW = 8


def trains(probe: Probe) -> Finding:
    """Whether the reply is another model than the one received."""
    if probe.base.norm == 0:
        return wrong("the reply is the model as it came; train it, and reply the trained weights")
    return ok(f"the reply is {probe.base.norm:.3g} away from the model, in l2")


def weights(probe: Probe) -> Finding:
    """Whether weights are replied, and not gradients or changes.

    With a step near 0, weights that start at theta + u end u further on: psi' - psi = u. A gradient or a change does
    not follow: psi' - psi is then H u, or lr H u, with the Hessian H.
    """
    theta = probe.model.parameters.astype(np.float64)
    size = max(0.1 * float(np.sqrt(np.mean(theta**2))), 0.01)
    moved = probe.model.stepped(-size * np.random.default_rng(0).standard_normal(theta.size))
    u = moved.parameters - theta
    reply = probe.reply(moved, {"lr": probe.terms.lr / 1000})
    astray = float(np.linalg.norm(reply.delta - probe.small.delta) / np.linalg.norm(u))
    if astray <= 0.5:
        return ok(f"the reply follows the model it is sent: trained weights ({astray:.2g} of a move astray)")
    # Changes shrink with lr, weights and gradients do not.
    shrinks = _norm(probe.small.trained) < 0.05 * _norm(probe.base.trained)
    what = "the change of the weights" if shrinks else "gradients"
    return wrong(
        f"the reply does not follow the model it is sent ({astray:.2g} of a move astray), it looks like {what}; reply "
        "the trained weights themselves"
    )


def step(probe: Probe) -> Finding:
    """Whether a tenth of lr moves a tenth as far, where steps are small."""
    seen: list[tuple[float, float]] = []
    for divisor in _DIVISORS:
        lr = probe.terms.lr / divisor
        long, short = probe.reply(probe.model, {"lr": lr}), _tenth(probe, lr)
        if short.norm <= probe.rounding:
            continue
        ratio = long.norm / short.norm
        if 5 <= ratio <= 20:
            return ok(f"lr is obeyed: lr={lr:g} moves {ratio:.3g} times as far as lr={lr / 10:g}")
        seen.append((lr, ratio))
    if not seen:
        return note("whether lr is obeyed cannot be told: displacements are lost in the rounding of the model's dtype")
    lr, ratio = seen[0]
    return wrong(
        f"lr={lr:g} moves {ratio:.3g} times as far as lr={lr / 10:g}, and 10 times is what plain SGD does; train with "
        "the lr of the message: the server divides by it"
    )


def momentum(probe: Probe) -> Finding:
    """Whether a second epoch moves as far as the first, one batch of all records each.

    With a step near 0 the gradient stays g: plain SGD moves lr g an epoch, momentum m adds m lr g in the second.
    """
    try:
        one, two = (probe.gentle({**_whole(probe), "local-epochs": epochs}) for epochs in (1, 2))
    except (NoAnswer, Rejected) as reason:
        return note(f"whether there is momentum cannot be told: {reason}, with one batch of all records")
    if one is None or two is None:
        return note("whether there is momentum cannot be told: with one batch of all records it hardly moves")
    ratio = two.norm / one.norm
    if ratio > 2.2:
        return wrong(
            f"two epochs move {ratio:.3g} times as far as one: momentum, or a step that grows; use plain SGD "
            "(momentum=0), whose displacement is lr times a gradient"
        )
    if ratio < 1.7:
        return note(
            f"two epochs move {ratio:.3g} times as far as one: local-epochs is not obeyed, the step falls, or training "
            "is random (dropout)"
        )
    return ok(f"no momentum: two epochs move {ratio:.3g} times as far as one")


def adaptive(probe: Probe) -> Finding:
    """Whether a first step is lr times a gradient, and not lr times its signs, as Adam's and RMSprop's are."""
    try:
        reply = probe.gentle({**_whole(probe), "local-epochs": 1})
    except (NoAnswer, Rejected) as reason:
        return note(f"whether steps are adaptive cannot be told: {reason}, with one batch of all records")
    delta = np.zeros(0) if reply is None else np.abs(reply.delta)
    moved = delta[delta > 0.01 * delta.max(initial=0.0)]
    if moved.size < _FEW:
        return note(f"whether steps are adaptive cannot be told: {moved.size} parameters move")
    alike = float(np.mean(np.abs(moved / np.median(moved) - 1) < 0.05))
    if alike > 0.8:
        return wrong(
            f"{alike:.0%} of the parameters move equally far in one step, as with Adam, RMSprop or signs; use plain "
            "SGD, whose displacement is lr times a gradient"
        )
    return ok("steps follow the size of the gradient")


def descends(probe: Probe) -> Finding:
    """Whether the loss is one of the model sent, and falls along what is replied."""
    # Asked with a step near 0: a loss that is taken after training is then one at the model sent.
    lr = probe.terms.lr
    before = probe.loss(probe.model, {"lr": lr / 1000})
    rises = []
    for after in (probe.base, probe.reply(probe.model, {"lr": lr / 10}), probe.small):
        found = probe.loss(after.trained, {"lr": lr / 1000})
        if found < before:
            return ok(f"the loss falls where the reply goes, from {before:.6g} to {found:.6g}")
        rises.append(found - before)
    if not any(rises):
        return wrong(f"the loss is {before:.6g} whatever model is sent; reply the loss at that model")
    return wrong(
        f"the loss rises where the reply goes, from {before:.6g} by {rises[0]:.3g}, and with a thousandth of lr by "
        f"{rises[-1]:.3g}; reply theta - lr * gradient of the loss that is reported"
    )


def _tenth(probe: Probe, lr: float) -> Reply:
    return probe.small if lr == probe.terms.lr / 100 else probe.reply(probe.model, {"lr": lr / 10})


def _whole(probe: Probe) -> dict[str, float]:
    """Config for batches of all the records that the client says it has."""
    claimed = probe.content(probe.first).metric_records
    sizes = [record["num-examples"] for record in claimed.values() if "num-examples" in record]
    size = sizes[0] if sizes and isinstance(sizes[0], int | float) else probe.terms.batch_size
    return {"batch-size": max(1, int(size))}


def _norm(model: Model) -> float:
    theta: NDArray[np.float64] = model.parameters.astype(np.float64)
    return float(np.linalg.norm(theta))
