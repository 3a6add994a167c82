"""The model: a pure function of its seed, whose state dict can travel and be combined."""

from collections.abc import Iterator

import torch
from flwr.app import ArrayRecord
from torch import Tensor, nn

from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.protocol.model_findings import model_findings
from fedlaw_flwr.silo.checks.trial import Trial, kind_of, random_states, same_bytes

# What NumPy has as well; Flower sends arrays as NumPy's.
_TRAVEL = {
    torch.float16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
}


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
    learned = {key for key, _ in model.named_parameters(remove_duplicate=False)}
    faults = [fault for key, value in found.items() for fault in _faults(key, value, key in learned)]
    if faults or not found:
        yield from (wrong(fault) for fault in faults or ["the model has an empty state dict: nothing to learn"])
        return
    record = ArrayRecord(found)
    try:
        model.load_state_dict(record.to_torch_state_dict(), strict=True)
    except (ValueError, RuntimeError) as error:
        yield wrong(f"the state dict cannot be used: {' '.join(str(error).split())}")
        return
    yield from model_findings(record)


def _faults(key: str, value: object, learned: bool) -> Iterator[str]:
    """What keeps this entry of the state dict from being sent, or from being learned; learned: it is a parameter."""
    if not isinstance(value, Tensor):
        yield f"{key!r} in the state dict is {type(value).__name__}: only tensors travel"
    elif value.layout != torch.strided:
        yield f"{key!r} is {str(value.layout).removeprefix('torch.')}: only dense tensors travel; call to_dense()"
    elif value.dtype not in _TRAVEL:
        yield f"{key!r} is {kind_of(value)}: float32, float64, float16 or complex64 is expected of what is learned"
    elif learned and bool(torch.isnan(value).any()):
        yield f"{key!r} has values that are not finite before any training"


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
