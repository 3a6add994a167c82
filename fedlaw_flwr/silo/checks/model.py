"""The model: a pure function of its seed, whose state dict can travel and be combined."""

import re
from collections.abc import Iterator

import torch
from flwr.app import ArrayRecord
from torch import Tensor, nn

from fedlaw_flwr.findings import Finding, note, ok, wrong
from fedlaw_flwr.layout import BATCH_NORM, Layout
from fedlaw_flwr.silo.checks.trial import Trial, kind_of, random_states, same_bytes


def seeded(trial: Trial) -> Iterator[Finding]:
    """Whether build_model(seed) is the same model every time, and another for another seed."""
    model = trial.model()
    if not isinstance(model, nn.Module):
        yield wrong(f"build_model() gives {type(model).__name__}: a torch.nn.Module is expected")
        return
    differing = _differing(model, trial.model())
    if differing:
        yield wrong(
            f"build_model({trial.seed}) twice gives two models ({differing[0]} differs): draw every number from the "
            "seed, as fedlaw_flwr.tasks.models.seeded does"
        )
        return
    yield ok("build_model(seed) gives the same model every time")
    if not _differing(model, trial.task.build_model(trial.seed + 1)):
        yield note("the model is the same for every seed: right for one that starts at zero or is pretrained")


def random_state(trial: Trial) -> Iterator[Finding]:
    """Whether build_model leaves the process's random generators as they were."""
    before = random_states()
    trial.model()
    changed = [
        name for name, was, now in zip(("torch", "NumPy", "Python"), before, random_states(), strict=True) if was != now
    ]
    if changed:
        yield wrong(
            f"build_model() changes the global random state of {' and '.join(changed)}, and with it what other code "
            "in the process draws: build inside fedlaw_flwr.tasks.models.seeded"
        )
    else:
        yield ok("build_model() leaves the process's random state as it was")


def state(trial: Trial) -> Iterator[Finding]:
    """Whether the state dict can be sent, taken apart and put back: dtypes, finite values, parameters, buffers."""
    model = trial.model()
    found = dict(model.state_dict())
    faults = [fault for key, value in found.items() for fault in _faults(key, value)]
    if faults or not found:
        yield from (wrong(fault) for fault in faults or ["the model has an empty state dict: nothing to learn"])
        return
    record = ArrayRecord(found)
    try:
        layout = Layout.of(record)
        model.load_state_dict(record.to_torch_state_dict(), strict=True)
    except (ValueError, RuntimeError) as error:
        yield wrong(f"the state dict cannot be used: {' '.join(str(error).split())}")
        return
    kinds = {kind: [slot for slot in layout.slots if slot.kind == kind] for kind in ("parameter", "buffer", "fixed")}
    yield ok(f"{layout.num_parameters} parameters in {len(kinds['parameter'])} arrays")
    if kinds["buffer"]:
        yield note(
            f"{layout.num_buffers} numbers in {len(kinds['buffer'])} buffers (batch norm): the server combines them by "
            "the coordinate-wise median, not by weight; group norm has none"
        )
    if kinds["fixed"]:
        names = ", ".join(slot.key for slot in kinds["fixed"])
        yield note(f"whole numbers stay as the server has them, whatever silos send: {names}")


def _faults(key: str, value: object) -> Iterator[str]:
    if not isinstance(value, Tensor):
        yield f"{key!r} in the state dict is {type(value).__name__}: only tensors travel"
    elif value.dtype == torch.bfloat16 or value.is_complex() or value.is_quantized:
        yield f"{key!r} is {kind_of(value)}: float32, float64 or float16 is expected of what is learned"
    elif not torch.isfinite(value).all():
        yield f"{key!r} has values that are not finite before any training"
    elif re.search(BATCH_NORM, key) and re.search("running_var$", key) and bool((value < 0).any()):
        yield f"{key!r} has negative variances"


def _differing(one: nn.Module, other: nn.Module) -> list[str]:
    """The names in the state dicts of two models whose bytes differ."""
    first, second = dict(one.state_dict()), dict(other.state_dict())
    return [
        key for key in first | second if key not in first or key not in second or not _equal(first[key], second[key])
    ]


def _equal(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return same_bytes(one, other)
    return bool(one == other)
