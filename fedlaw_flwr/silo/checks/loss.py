"""Outputs and loss of a batch: shapes, finite, a mean, each target with its own output; a gradient for each array."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.silo.checks.trial import Trial, kind_of

# Means of float32 losses in two orders agree far better than this; a sum and a mean, or two pairings, do not.
_SAME = 1e-5


def outputs(trial: Trial) -> Iterator[Finding]:
    """Whether the model takes the inputs, leaves them as they are, and gives a finite output for each."""
    given = trial.some.inputs.clone()
    try:
        found = _outputs(trial.model(), given)
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        yield wrong(f"the model does not take inputs {kind_of(given)}: {said[:300]}")
        return
    if not torch.equal(given, trial.some.inputs):
        yield wrong("the model changes its inputs in place: examples are shared, so the next epoch sees others; copy")
    elif not isinstance(found, Tensor) or found.dim() == 0 or len(found) != len(given):
        kind = kind_of(found) if isinstance(found, Tensor) else type(found).__name__
        yield wrong(f"the model gives {kind} for inputs {kind_of(given)}: one row for each example is expected")
    elif not torch.isfinite(found).all():
        yield wrong("the model's outputs are not finite before any training: look at the scale of the inputs")
    else:
        yield ok(f"outputs {kind_of(found)} for inputs {kind_of(given)}")


def loss(trial: Trial) -> Iterator[Finding]:
    """Whether the loss of a batch is one finite number."""
    found, targets = _outputs(trial.model(), trial.some.inputs), trial.some.targets
    shapes = f"outputs {kind_of(found)} with targets {kind_of(targets)}"
    given = targets.clone()
    try:
        value = trial.task.loss(found, given)
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        yield wrong(f"the loss does not take {shapes}: {said[:300]}")
        return
    if not torch.equal(given, targets):
        yield wrong("the loss changes its targets in place: examples are shared between callers; copy them first")
    elif not isinstance(value, Tensor) or value.dim() != 0:
        kind = kind_of(value) if isinstance(value, Tensor) else type(value).__name__
        yield wrong(f"the loss of {shapes} is {kind}: the mean over the examples is expected, a scalar tensor")
    elif not math.isfinite(float(value)):
        yield wrong(f"the loss of {shapes} is {float(value)} before any training: the server would set it aside")
    else:
        yield ok(f"the loss of {shapes} is {float(value):.4g}")
        if float(value) < 0:
            yield note(
                "the loss is negative: the server sets such a reply aside unless its `loss-floor` (0) is "
                "lower; tell the federation's operator how low yours can get, or add a constant"
            )


def mean(trial: Trial) -> Iterator[Finding]:
    """Whether the loss is a mean over the examples: the same ones twice must give the same loss."""
    found, targets = _outputs(trial.model(), trial.some.inputs), trial.some.targets
    once = float(trial.task.loss(found, targets))
    twice = float(trial.task.loss(torch.cat([found, found]), torch.cat([targets, targets])))
    if _close(once, twice):
        yield ok("the loss is a mean: the same examples twice give the same loss")
    else:
        yield wrong(
            f"the loss of {len(targets)} examples is {once:.4g}, of the same ones twice {twice:.4g}: a mean is "
            "expected (reduction='mean'); FedLAW compares silos by it, and a sum makes lr depend on the batch size"
        )


def pairs(trial: Trial) -> Iterator[Finding]:
    """Whether each target is held against its own output: shuffled targets must give another loss.

    Outputs (m, 1) against targets (m,) are broadcast to (m, m), and the loss is then the same in any order.
    """
    found, targets = _outputs(trial.disturbed(), trial.some.inputs), trial.some.targets
    shuffled = [targets.roll(shift, 0) for shift in (1, 2, 3)]
    same_outputs = bool((found == found[:1]).all())
    if same_outputs or all(torch.equal(order, targets) for order in shuffled):
        what = "outputs" if same_outputs else "targets"
        yield note(f"whether each target meets its own output cannot be seen: all {what} looked at are the same")
        return
    held = float(trial.task.loss(found, targets))
    if all(_close(held, float(trial.task.loss(found, order))) for order in shuffled):
        yield wrong(
            f"the loss is the same whichever output a target is held against: outputs {kind_of(found)} and targets "
            f"{kind_of(targets)} are probably broadcast against each other; give both one shape (squeeze(1))"
        )
    else:
        yield ok("each target is held against its own output")


def gradient(trial: Trial) -> Iterator[Finding]:
    """Whether the loss of a batch has a gradient for every parameter that is not frozen."""
    names = [name for name, parameter in trial.model().named_parameters() if parameter.requires_grad]
    frozen = [name for name, parameter in trial.model().named_parameters() if not parameter.requires_grad]
    if not names:
        yield wrong("every parameter is frozen (requires_grad=False): nothing to learn")
        return
    at_first, later = _without_gradient(trial, trial.model()), _without_gradient(trial, trial.disturbed())
    if at_first is None or later is None:
        yield wrong("the loss does not depend on the parameters: no .detach(), .item(), argmax or NumPy on the way")
        return
    unreached = [name for name in names if name in at_first and name in later]
    asleep = [name for name in names if name in at_first and name not in later]
    if unreached:
        yield wrong(
            f"no gradient reaches {', '.join(unreached)}: a layer that forward() leaves out, a detach() or a dead "
            "activation; use it, or freeze it by requires_grad_(False)"
        )
    else:
        yield ok(f"a gradient reaches each of {len(names)} parameter arrays")
    if asleep:
        yield note(
            f"the gradient is zero at the start for {', '.join(asleep)}: right before a layer that starts at zero"
        )
    if frozen:
        yield note(f"frozen, they travel and never change: {', '.join(frozen)}")


def _without_gradient(trial: Trial, model: nn.Module) -> set[str] | None:
    """The parameters of this model without a gradient on some examples; None where the loss has none at all."""
    model.train()
    value = trial.task.loss(model(trial.some.inputs.clone()), trial.some.targets)
    if not value.requires_grad:
        return None
    value.backward()
    return {name for name, p in model.named_parameters() if p.grad is None or not torch.count_nonzero(p.grad)}


@torch.no_grad()
def _outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    found: Tensor = model.eval()(inputs)
    return found


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= _SAME * max(abs(one), abs(other))
