"""A run of a federation from its submission to its end; resumed as long as each server gets further than the last."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from fedlaw_flwr.deploy.control import Control
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.package import run_config
from fedlaw_flwr.events.folder import RunFailed
from fedlaw_flwr.events.types import Event, OnEvent, RoundEnded, RunEnded, Warned

_MOST = 3
"""Servers in a row that may end without a round more: whatever ended them would end the next."""


class Attempts:
    """What a run is submitted with, the first time and each time it is resumed.

    Args:
        changed: Settings by name that differ from the federation's.

    Attributes:
        changed: The same for the attempt that comes.
    """

    def __init__(self, changed: Mapping[str, Any] | None) -> None:
        self.changed = dict(changed or {})
        self._furthest, self._in_vain = 0, 0

    @property
    def resume(self) -> str:
        """The run folder that is gone on with; "" for a run that begins."""
        return str(self.changed.get("resume") or "")

    def again(self, folder: str, round_number: int) -> bool:
        """Whether to resume the run in this folder, whose server ended after this round; 0: after none."""
        self._in_vain = 0 if round_number > self._furthest else self._in_vain + 1
        self._furthest = max(self._furthest, round_number)
        self.changed["resume"] = folder
        return self._in_vain < _MOST


class Place(Protocol):
    """Where the server's processes and its run folders are: on this machine, or in containers."""

    federation: Federation

    @property
    def app(self) -> str:
        """The rendered package, as `flwr run` is given it there."""
        ...

    def inode(self, name: str) -> int:
        """Which file the events of a run folder are in now; 0 for none."""
        ...

    def following(
        self, number: str, name: str, scratch: Path, before: int
    ) -> AbstractContextManager[tuple[Path, Iterator[Event]]]:
        """While this lasts: a folder of this machine that keeps up with the run's, and its events as they are written.

        Args:
            number: Flower's id of the run.
            name: Its run folder.
            scratch: A folder that may be used for that, the same each time the run is resumed.
            before: The file of its events before the run was resumed, which is not read; 0: there was none.
        """
        ...

    def has_checkpoints(self, name: str) -> bool:
        """Whether a run folder has checkpoints."""
        ...

    def last_words(self, number: str) -> str:
        """What the server said last of a run."""
        ...

    def fetched(self, name: str) -> Path:
        """The run folder on this machine, once the run is over."""
        ...


def to_its_end(
    place: Place,
    control: Control,
    on_event: OnEvent,
    changed: Mapping[str, Any] | None = None,
    begun: Callable[[Path], None] | None = None,
) -> Path:
    """Submits one run of the rendered package and follows it to its end.

    Where the server's process ends before the run does, the run is resumed, as long as it gets further.

    Args:
        place: Where the server is.
        control: The operator's commands there.
        on_event: Called with every event of the run; those of the rounds before too, each time it is resumed.
        changed: Settings by name that differ from the federation's, for this run alone; `resume` is the run folder of
            one that is to go on. Default: none.
        begun: Called once, before the first event, with a folder that keeps up with the run's. Default: nothing.

    Returns:
        The run folder.

    Raises:
        RunFailed: Unless both Flower and the folder say that the run completed.
    """
    attempts = Attempts(changed)
    with tempfile.TemporaryDirectory() as scratch:
        while True:
            before = place.inode(attempts.resume) if attempts.resume else 0
            number = control.submit(place.app, run_config(place.federation, attempts.changed))
            name = attempts.resume or f"run-{number}"
            ended, rounds = "", 0
            with place.following(number, name, Path(scratch), before) as (folder, events):
                for event in events:
                    if begun is not None:
                        begun(folder)
                        begun = None
                    on_event(event)
                    if isinstance(event, RoundEnded):
                        rounds = event.round
                    if isinstance(event, RunEnded):
                        ended = event.status + (f": {event.reason}" if event.reason is not None else "")
            said = control.settled(number)
            if ended:
                break
            is_cut = said == "finished:failed" and place.has_checkpoints(name)  # and not stopped by a person
            if not (is_cut and attempts.again(name, rounds)):
                last = place.last_words(number)
                raise RunFailed(f"run {number} is {said} and wrote no end; the server said last: {last}")
            on_event(Warned(reason=f"the server's process ended in {name}; the run is resumed"))
    folder = place.fetched(name)
    if said != "finished:completed" or ended != "completed":
        raise RunFailed(f"run {number} is {said}, its folder says {ended}; see {folder}")
    return folder
