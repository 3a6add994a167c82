"""What would leave the building: listed in full, and searched for verbatim copies of the silo's examples."""

import json
import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.silo.checks.copies import Hashes, fingerprints, standing, telling, windows
from fedlaw_flwr.silo.checks.trial import Trial, kind_of, size_of
from fedlaw_flwr.tasks.base import Examples

LONGEST_DESCRIPTION = 64 * 1024
"""Bytes of a description as JSON: it travels before any training."""

# A run of this many values of a row or a column is looked for; shorter rows whole, from 4 values on.
_RUN = 64
# Wider inputs are images or the like, of which nobody keeps the columns.
_WIDE = 4096
# So many numbers in a row of a description that also stand in a row in the data are no accident.
_NUMBERS = 4
_COUNT = re.compile(r"(?<![\d.])\d\d+(?!\.?\d)")  # no part of a decimal, and not 0 to 9
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def description(trial: Trial) -> Iterator[Finding]:
    """Whether description() is short text that another silo can have too, without values of this one's data."""
    found = trial.task.description()
    if not isinstance(found, dict) or not all(isinstance(text, str) for pair in found.items() for text in pair):
        yield wrong("description() must be a dict of texts: it is compared with other silos' name by name")
        return
    size = len(json.dumps(found).encode())
    if size > LONGEST_DESCRIPTION:
        yield wrong(f"description() has {size} bytes as JSON; {LONGEST_DESCRIPTION} are allowed: describe, do not list")
        return
    if trial.task.description() != found:
        yield wrong("description() is another one each time: it must be the same at every silo")
        return
    path = trial.source.data_path
    with_path = [name for name, text in found.items() if len(path) > 4 and path in f"{name} {text}"]
    with_data = [name for name, text in found.items() if _quotes(f"{name} {text}", trial)]
    for name in with_path:
        yield wrong(f"description() says the data path under {name!r}: it leaves, and differs from silo to silo")
    for name in with_data:
        yield wrong(
            f"description() has {_NUMBERS} or more values of this silo's examples in a row under {name!r}: it leaves; "
            "say the schema, never the data"
        )
    if not with_path + with_data:
        yield ok(f"description() says nothing of this silo's data that can be recognised ({len(found)} entries)")
    counts = {str(len(trial.train)), str(len(trial.train) + len(trial.test))}
    for name in (name for name, text in found.items() if counts & set(_COUNT.findall(text))):
        yield note(f"description() has this silo's number of examples under {name!r}: other silos' must be the same")


def raw_data(trial: Trial) -> Iterator[Finding]:
    """Whether an array of the model, before or after training, holds inputs or targets of this silo as they are.

    Looked for are rows of inputs, and the beginnings of columns and of the targets, in the order of the examples.
    """
    sought = _sought(trial)
    holding = dict[str, str]()
    for when, state in (("before", dict(trial.model().state_dict())), ("after", trial.reply)):
        for key, array in state.items():
            for length, named in sought.items():
                found = standing(np.concatenate(list(named.values())), length, array.numpy())
                for what, hashes in named.items() if len(found) else ():
                    count = np.count_nonzero(np.isin(hashes, found))
                    if count:
                        holding.setdefault(key, f"{count} {what} {when} training")
    for key, what in holding.items():
        yield wrong(
            f"array {key!r} holds {what}, as they are: they would leave. Data belongs in no parameter, and in no "
            "buffer but a persistent=False one"
        )
    if not holding:
        yield ok(
            "no array holds rows of inputs, columns or targets as they are; what a model memorises is not seen here"
        )


def leaves(trial: Trial) -> Iterator[Finding]:
    """Everything a reply would hold, and the silo's description: this and no more."""
    reply = trial.reply
    size = sum(value.numel() * value.element_size() for value in reply.values())
    arrays = ", ".join(f"{key} {kind_of(value)}" for key, value in reply.items())
    yield note(f"leaves in each exchange: {len(reply)} arrays of {size_of(size)}, trained on this data: {arrays}")
    yield note(
        f"leaves in each exchange: loss {trial.exchange[0].loss:.6g}, num-examples {len(trial.train)}, partition-id"
    )
    yield note(f"leaves where an evaluation is asked for: loss, num-examples, {', '.join(trial.figures)}")
    texts = "; ".join(f"{name}: {text}" for name, text in trial.task.description().items())
    yield note(f"leaves before training: description() {{{texts}}}")


def _sought(trial: Trial) -> dict[int, dict[str, Hashes]]:
    """What is looked for: by length of run and name, the hashes of the runs."""
    sought = dict[int, dict[str, Hashes]]()
    for source, examples in (("training", trial.train), ("held-back", trial.test)):
        for what, runs in _runs(examples):
            sought.setdefault(runs.shape[1], {})[f"{what} of the {source} examples"] = fingerprints(runs)
    return sought


def _runs(examples: Examples) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """By name, runs of values (k, length) that no model should hold."""
    if not len(examples):
        return
    rows = examples.inputs.reshape(len(examples), -1)
    wide = rows.shape[1]
    start = max(0, (wide - _RUN) // 2)  # the middle of a row: the margins of images are all alike
    yield "rows", rows[:, start : start + _RUN].numpy()
    if wide <= _WIDE:
        yield "columns", rows[:_RUN].T.numpy()
    yield "targets", examples.targets.reshape(len(examples), -1)[:_RUN].T.numpy()


def _quotes(text: str, trial: Trial) -> bool:
    """Whether four numbers in a row of this text stand in a row, or one below the other, in the examples' inputs."""
    numbers = np.array([float(number) for number in _NUMBER.findall(text)], np.float32)
    if len(numbers) < _NUMBERS:
        return False
    runs = np.lib.stride_tricks.sliding_window_view(numbers, _NUMBERS)
    counting = np.ptp(np.diff(runs, axis=1), axis=1) == 0  # 1, 2, 3, 4 are labels or positions
    hashes = windows(numbers, _NUMBERS)[telling(runs) & ~counting]
    return bool(len(hashes)) and any(
        np.isin(hashes, windows(part, _NUMBERS)).any()
        for examples in (trial.train, trial.test)
        for inputs in examples.inputs.split(1024)
        for part in (inputs.numpy().reshape(-1), inputs.reshape(len(inputs), -1).T.numpy().reshape(-1))
    )
