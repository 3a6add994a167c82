"""The examples: there are some, of the right kind, as many inputs as targets, all finite, none on both sides."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.silo.checks.copies import windows
from fedlaw_flwr.silo.checks.trial import Trial, kind_of
from fedlaw_flwr.tasks.base import Examples


def examples(trial: Trial) -> Iterator[Finding]:
    """Whether load_train() and load_test() give what training can use."""
    train, test = trial.train, trial.test
    faults = [*_faults("load_train()", train), *_faults("load_test()", test)]
    if faults:
        yield from (wrong(fault) for fault in faults)
        return
    if not len(train):
        yield wrong("load_train() gives no example: at least one is needed; look at the data path and the options")
        return
    what = f"{len(train)} training examples, {len(test)} held back; inputs {kind_of(train.inputs)}"
    yield ok(f"{what}, targets {kind_of(train.targets)}")
    if not len(test):
        yield note("load_test() holds nothing back: a received model can only be measured on what it is trained on")
    elif test.inputs.shape[1:] != train.inputs.shape[1:] or test.inputs.dtype != train.inputs.dtype:
        yield wrong(f"load_test() gives inputs {kind_of(test.inputs)}, load_train() {kind_of(train.inputs)}")
    else:
        twice = int(np.isin(_hashes(test.inputs), _hashes(train.inputs)).sum())
        if twice:
            yield note(f"{twice} of {len(test)} examples held back are trained on as well: figures on them flatter")
    suspicions = getattr(trial.task, "suspicions", list)  # of our own tasks: what looks wrong in the data
    yield from (note(f"in the data: {said}") for said in suspicions())


def _faults(where: str, found: object) -> Iterator[str]:
    """What is wrong with one set of examples."""
    if not isinstance(found, Examples):
        yield f"{where} gives {type(found).__name__}: return fedlaw_flwr.tasks.base.Examples(inputs, targets)"
        return
    tensors = {"inputs": found.inputs, "targets": found.targets}
    strange = [name for name, tensor in tensors.items() if not isinstance(tensor, Tensor)]
    if strange:
        kinds = ", ".join(f"{name} {type(tensors[name]).__name__}" for name in strange)
        yield f"{where} gives {kinds}: tensors are expected; torch.as_tensor makes one"
        return
    if any(tensor.dim() == 0 for tensor in tensors.values()) or len(found.inputs) != len(found.targets):
        shapes = f"inputs {kind_of(found.inputs)}, targets {kind_of(found.targets)}"
        yield f"{where} gives {shapes}: each needs one row for each example"
        return
    for name, tensor in tensors.items():
        if tensor.is_complex() or tensor.dtype == torch.bfloat16:
            yield f"{where} gives {name} {kind_of(tensor)}: whole numbers, float32, float64 or float16 are expected"
        elif tensor.requires_grad:
            yield f"{where} gives {name} that require a gradient: .detach() them"
        elif not torch.isfinite(tensor).all():
            count = int((~torch.isfinite(tensor).reshape(len(tensor), -1).all(1)).sum())
            yield f"{where}: {count} of {len(tensor)} examples have {name} that are not finite: fill or drop them"


def _hashes(inputs: Tensor) -> NDArray[np.uint64]:
    """A hash of each example's inputs (m,)."""
    if not inputs[0].numel():
        return np.arange(len(inputs), dtype=np.uint64)
    parts = [part.reshape(len(part), -1).numpy() for part in inputs.split(256)]
    return np.concatenate([windows(part, part.shape[1])[:, 0] for part in parts])
