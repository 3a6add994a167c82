"""The run folder: settings, an event a line as it happens, the final model, and nothing that is ever overwritten."""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.errors import AlreadyThere, InputError
from fedlaw_flwr.events.types import Event, OnEvent, RunEnded, from_dict

EVENTS, SETTINGS, MODEL = "events.jsonl", "settings.json", "model.safetensors"
_log = logging.getLogger("flwr")


class RunFailed(RuntimeError):
    """A run did not do what it was started for; the text says what is known."""


class Described(Protocol):
    """The settings of a run, as far as its folder needs them (`config.settings.Settings`)."""

    run_dir: str
    task: str
    strategy: str
    attack: str

    def as_config(self) -> dict[str, Any]:
        """Every setting by its name in files."""
        ...


class RunFolder:
    """One run's files, open for writing; a context manager that notes how the run ended, whatever ended it."""

    def __init__(self, path: Path, on_event: OnEvent | None = None) -> None:
        self.path = path
        self._on_event = on_event
        self._events = (path / EVENTS).open("a", encoding="utf-8")

    @classmethod
    def create(cls, settings: Described, on_event: OnEvent | None = None) -> "RunFolder":
        """The folder `run-dir` names, or a new one under `runs/` named by time, task, strategy and attack.

        Args:
            settings: The settings of the run; they are written into the folder.
            on_event: Called with every event after it is written.

        Raises:
            FileExistsError: If that folder already holds a run: nothing is overwritten.
        """
        path = Path(settings.run_dir).expanduser() if settings.run_dir else fresh_folder(Path("runs"), settings)
        path.mkdir(parents=True, exist_ok=True)
        if (path / EVENTS).exists():
            raise AlreadyThere(f"run-dir={str(path)!r} already holds a run; name another folder or remove it")
        (path / SETTINGS).write_text(json.dumps(settings.as_config(), indent=2) + "\n")
        _log.info("Run folder: %s", path.resolve())
        return cls(path.resolve(), on_event)

    def write(self, event: Event) -> None:
        """Appends one event, on disk before this returns."""
        self._events.write(json.dumps(event.to_dict()) + "\n")
        self._events.flush()
        if self._on_event:
            self._on_event(event)

    def save_model(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """The final model's state dict, as safetensors."""
        from safetensors.numpy import save_file

        save_file({key: value.copy(order="C") for key, value in state.items()}, self.path / MODEL)

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.write(RunEnded(status="completed"))
        else:
            self.write(RunEnded(status="failed", reason=f"{type(error).__name__}: {error}"))
        self._events.close()


def fresh_folder(parent: Path, settings: Described) -> Path:
    """A folder under `parent` that does not exist yet, named by time, strategy and attack."""
    attack = settings.attack.replace(":", "-").replace(",", "+")
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{settings.task}-{settings.strategy}-{attack}"
    return unused(parent / stem)


def unused(path: Path) -> Path:
    """This path, or the first of path-2, path-3 and on where nothing is yet."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def read_events(path: Path) -> Iterator[Event]:
    """The events of a run folder, in order; a last line still being written and kinds not known here are left out."""
    text = (path / EVENTS).read_text(encoding="utf-8")
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1):
        event = _event_of(line, path / EVENTS, number)
        if event is not None:
            yield event


def follow_events(path: Path, pause: float = 0.5) -> Iterator[Event]:
    """The events of a run folder, those there are and those to come, until the one that says how the run ended.

    Args:
        path: The run folder.
        pause: Seconds between two looks at the file. A run that was killed never ends; the caller stops then.

    Raises:
        InputError: If a line is no event.
    """
    with (path / EVENTS).open(encoding="utf-8") as file:
        line, number = "", 0
        while True:
            line += file.readline()
            if not line.endswith("\n"):  # the end of the file, or of what is written of this line so far
                time.sleep(pause)
                continue
            number += 1
            event = _event_of(line, path / EVENTS, number)
            line = ""
            if event is not None:
                yield event
            if isinstance(event, RunEnded):
                return


def _event_of(line: str, file: Path, number: int) -> Event | None:
    try:
        return from_dict(json.loads(line))
    except ValueError as error:
        raise InputError(f"{file}:{number}: this line is no event of a run: {error}") from None
