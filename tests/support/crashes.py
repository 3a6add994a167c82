"""A server killed at every step it takes on the disk: what would then lie there is copied, to be gone on from."""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedlaw_flwr.core import durable
from fedlaw_flwr.events.folder import EVENTS


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
