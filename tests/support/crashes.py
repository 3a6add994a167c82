"""A small federation, and its server killed at every step it takes on the disk: what would then lie there is copied."""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord
from scripted import ScriptedGrid, record_of, reply, stopped_clock

from fedlaw_flwr.core import durable
from fedlaw_flwr.events.folder import EVENTS

N, ROUNDS = 8, 4


START = {"w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "steps": np.array(7)}


def gradient(received):
    """Silo i's: towards a point of its own, with noise that depends on the model, the round and the silo alone."""
    rng = np.random.default_rng([received.silo, received.round, received.exchange])
    w = received.arrays["w"].astype(np.float64)
    return (w - 0.1 * received.silo + rng.normal(0, 0.05, w.shape)).astype(np.float32)


def honest(received):
    g = gradient(received)
    wanted = {**received.arrays, "w": received.arrays["w"] - np.float32(0.1) * g} if received.reply != "loss" else None
    return reply(wanted, float(np.square(g).mean()), partition=received.silo)


def flipped(received):
    w = received.arrays["w"] + np.float32(0.4) * gradient(received)
    return reply({**received.arrays, "w": w}, 0.01, partition=received.silo)


def unreliable(received):
    """Silent in round 2, junk in round 3, silent at round 1's trial model."""
    if received.round == 2 or (received.round, received.exchange) == (1, 2):
        return None
    if received.round == 3:
        return reply({"w": np.full((3, 4), np.nan, np.float32), "steps": np.array(7)}, 1.0, partition=received.silo)
    return honest(received)


def grid(node_ids=None):
    return ScriptedGrid([honest] * (N - 2) + [flipped, unreliable], node_ids=node_ids)


def start(strategy, node_ids=None, rounds=ROUNDS, arrays=START, lr=0.1, **more):
    """Runs this strategy over the federation, with a clock that does not wait."""
    config = ConfigRecord({"lr": lr})
    with stopped_clock():
        return strategy.start(grid(node_ids), record_of(arrays), rounds, 5, config, **more)


class Instants:
    """Stands in for `os` where files are written: a copy of the folder before each step, and halfway through writes.

    SIGKILL leaves what the system was told by then, so a copy is what a server killed at that instant leaves.
    """

    def __init__(self, folder: Path, to: Path) -> None:
        self._folder, self._to = folder, to
        self.copies: list[Path] = []

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, flags, *more):
        if flags & os.O_CREAT:
            self._copy()
        return os.open(path, flags, *more)

    def write(self, handle, content):
        self._copy()
        half = os.write(handle, content[: len(content) // 2])
        self._copy()
        return half + os.write(handle, content[half:])

    def replace(self, *paths):
        self._copy()
        return os.replace(*paths)

    def unlink(self, *paths):
        self._copy()
        return os.unlink(*paths)

    def ftruncate(self, *paths):
        self._copy()
        return os.ftruncate(*paths)

    def _copy(self) -> None:
        place = self._to / f"{len(self.copies):04}"
        if self._folder.exists():
            shutil.copytree(self._folder, place)
        else:
            place.mkdir()
        self.copies.append(place)


@contextmanager
def every_instant(folder: Path, to: Path):
    """The copies of a run folder at every instant at which its server could be killed."""
    to.mkdir(parents=True)
    instants = Instants(folder, to)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "os", instants)
        yield instants.copies


def told(folder: Path) -> list:
    """The events of a run, times apart, and that it was resumed apart."""
    events = [json.loads(line) for line in (folder / EVENTS).read_text().splitlines()]
    return [_without_times(event) for event in events if event["kind"] != "resumed"]


def resumptions(folder: Path) -> list[dict]:
    """The events that say that the run was resumed."""
    events = [json.loads(line) for line in (folder / EVENTS).read_text().splitlines()]
    return [event for event in events if event["kind"] == "resumed"]


def _without_times(value):
    if isinstance(value, dict):
        return {
            name: _without_times(one) for name, one in value.items() if name not in ("seconds", "run-dir", "resume")
        }
    return [_without_times(one) for one in value] if isinstance(value, list) else value
