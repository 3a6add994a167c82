"""Checks that what is replied is the trained weights, and that they were trained by plain SGD with the step lr."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.conformance.probe import Config, NoAnswer, Probe, Reply
from fedlaw_flwr.protocol.gate import Rejected
from fedlaw_flwr.protocol.layout import Model

# Steps lr / 100 and lr / 1000 are where training is linear; shorter ones where it is not yet, longer ones where
# float16 or a small lr loses what shorter ones do.
_DIVISORS = (100, 10_000, 10, 1)
# Twice the steps that move less than this many times as far were not taken.
_OBEYED = 1.7
# By so much more than twice does momentum of 0.9 move where an epoch has up to a hundred steps; and by so many times
# what lies between the lengths of several replies.
_EXCESS, _CHANCES = 0.1, 2
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
    """Whether twice the steps move twice as far: two epochs against one, one batch of all records each.

    With a step near 0 the gradient stays g: plain SGD moves lr g a step, momentum m moves m lr g more in the second,
    and the more the longer it goes on. A client that does not obey `local-epochs` is asked by its run configuration,
    and one that takes its epochs from neither by batches of half its records.
    """
    try:
        for way in _ways(probe):
            if (found := _doubled(probe, way)) is not None:
                return found
    except (NoAnswer, Rejected) as reason:
        return note(f"whether there is momentum cannot be told: {reason}, with one batch of all records")
    return note(
        "whether there is momentum cannot be told: local-epochs is not obeyed and batch-size neither, or the step "
        "falls, or chance outweighs it; see that the optimiser is plain SGD (momentum=0)"
    )


@dataclass(frozen=True)
class _Way:
    """How a client is asked for some steps, and for twice as many; what differs in the message, in the run config."""

    words: str
    once: Config
    twice: Config
    run_once: Config = field(default_factory=dict)
    run_twice: Config = field(default_factory=dict)
    remark: str = ""


def _ways(probe: Probe) -> Iterator[_Way]:
    """The ways in which a client may let itself be asked for twice the steps."""
    whole = _whole(probe)
    one, two = (dict[str, str | float | None](whole | {"local-epochs": epochs}) for epochs in (1, 2))
    yield _Way("two epochs move {ratio:.3g} times as far as one", one, two)
    if keys := list(probe.epochs):
        run_one, run_two = (dict.fromkeys(keys, epochs) for epochs in (1, 2))
        remark = f"; local-epochs is not obeyed, the epochs are those of the run configuration ({', '.join(keys)})"
        yield _Way("two epochs move {ratio:.3g} times as far as one", one, one, run_one, run_two, remark)
    half = {**one, "batch-size": -(-int(whole["batch-size"]) // 2)}
    remark = "; local-epochs is not obeyed, so batches were halved"
    yield _Way("two batches move {ratio:.3g} times as far as one", one, half, remark=remark)


def _doubled(probe: Probe, way: _Way) -> Finding | None:
    """What twice the steps tell of momentum; None where the client does not take twice as many when asked so."""
    once, twice = probe.gentle(way.once, way.run_once), probe.gentle(way.twice, way.run_twice)
    if once is None or twice is None:
        return note("whether there is momentum cannot be told: with one batch of all records it hardly moves")
    ratio = twice.norm / once.norm
    if ratio < _OBEYED:
        return None
    others = [probe.gentle({**way.once, "server-round": number}, way.run_once) for number in (2, 3, 4)]
    norms = [once.norm, *(reply.norm for reply in others if reply is not None)]
    chance = (max(norms) - min(norms)) / once.norm  # of orders of batches, and dropout
    said = way.words.format(ratio=ratio) + way.remark
    if ratio - 2 <= max(_EXCESS, _CHANCES * chance):
        return note(f"no momentum: {said}") if way.remark else ok(f"no momentum: {said}")
    if _is_curvature(probe, way, ratio):
        return ok(f"no momentum: {said}, less with a shorter step")
    return wrong(
        f"{said}: momentum, or a step that grows; use plain SGD (momentum=0), whose displacement is lr times a gradient"
    )


def _is_curvature(probe: Probe, way: _Way, ratio: float) -> bool:
    """Whether the excess over 2 goes with the step, as that of a gradient that grows on the way, and momentum's not."""
    once, twice = (probe.gentle(*asked, shrunk=10) for asked in ((way.once, way.run_once), (way.twice, way.run_twice)))
    return once is not None and twice is not None and twice.norm / once.norm - 2 < (ratio - 2) / 2


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
    again = probe.loss(probe.model, {"lr": lr / 1000})
    if again != before and min(rises) <= 3 * abs(again - before):
        return note(
            f"whether the loss falls cannot be told: the model sent has a loss of {before:.6g} once and of {again:.6g} "
            "another time; take it over all records, in evaluation mode, and it can be compared"
        )
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
