"""The run folder: settings, an event a line as it happens, the final model; one process at a time writes into it."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.durable import Appended, Lock, write_whole
from fedlaw_flwr.core.errors import AlreadyThere, InputError
from fedlaw_flwr.events.types import Event, OnEvent, RunEnded, RunResumed, from_dict

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
    """One run's files, open for writing; a context manager that notes how the run ended, whatever ended it.

    Args:
        path: The folder.
        on_event: Called with every event after it is written.
        lock: What keeps other processes out; None: a lock is taken.

    Raises:
        InUse: If another process writes into the folder.
    """

    def __init__(self, path: Path, on_event: OnEvent | None = None, lock: Lock | None = None) -> None:
        self.path = path
        self._on_event = on_event
        self._lock = lock or Lock(path, "the run")
        self._events = Appended(path / EVENTS)

    @classmethod
    def create(cls, settings: Described, on_event: OnEvent | None = None) -> "RunFolder":
        """The folder `run-dir` names, or a new one under `runs/` named by time, task, strategy and attack.

        Args:
            settings: The settings of the run; they are written into the folder.
            on_event: Called with every event after it is written.

        Raises:
            FileExistsError: If that folder already holds a run: nothing is overwritten.
            InUse: If another process writes into the folder.
        """
        path = Path(settings.run_dir).expanduser() if settings.run_dir else fresh_folder(Path("runs"), settings)
        path.mkdir(parents=True, exist_ok=True)
        lock = Lock(path, "the run")
        try:
            if (path / EVENTS).exists():
                raise AlreadyThere(f"run-dir={str(path)!r} already holds a run; name another folder or remove it")
            write_settings(path, settings.as_config())
            _log.info("Run folder: %s", path.resolve())
            return cls(path.resolve(), on_event, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def reopen(cls, path: Path, kept: bytes, resumed: RunResumed, lock: Lock, on_event: OnEvent | None) -> "RunFolder":
        """The folder of a run that is resumed: of its events some stay, and one that says so is added.

        Args:
            path: The folder.
            kept: The lines that stay.
            resumed: The event; it has the lines that do not stay.
            lock: The lock on the folder.
            on_event: Called with every event after it is written, this one too.
        """
        write_whole(path / EVENTS, kept + _line(resumed))
        if on_event:
            on_event(resumed)
        return cls(path, on_event, lock)

    @property
    def position(self) -> tuple[int, str]:
        """How many bytes of events there are, and their SHA-256; they are on disk before this returns."""
        self._events.sync()
        return self._events.size, self._events.digest

    def write(self, event: Event) -> None:
        """Appends one event, in the file before this returns."""
        self._events.append(_line(event))
        if self._on_event:
            self._on_event(event)

    def save_model(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """The final model's state dict, as safetensors."""
        from safetensors.numpy import save

        write_whole(self.path / MODEL, save({key: value.copy(order="C") for key, value in state.items()}))

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.write(RunEnded(status="completed"))
            else:
                self.write(RunEnded(status="failed", reason=f"{type(error).__name__}: {error}"))
        except OSError as unwritten:  # a full disk: what ended the run is what a person should read
            if error is None:
                raise
            _log.error("How the run ended could not be written: %s", unwritten)
        finally:
            self._events.close()
            self._lock.release()


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings of a run into its folder."""
    write_whole(folder / SETTINGS, (json.dumps(dict(settings), indent=2) + "\n").encode())


def _line(event: Event) -> bytes:
    return (json.dumps(event.to_dict()) + "\n").encode()


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


def inode_of(path: Path) -> int:
    """Which file the events of a run folder are in now, 0 for none: another one once the run is resumed."""
    return (path / EVENTS).stat().st_ino if (path / EVENTS).exists() else 0


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
    told: list[bytes] = []  # the lines so far, as digests
    file, line, number = (path / EVENTS).open("rb"), b"", 0
    try:
        while True:
            line += file.readline()
            if not line.endswith(b"\n"):  # the end of the file, or of what is written of this line so far
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path / EVENTS)):
                    time.sleep(pause)
                else:  # the run was resumed: its last lines may stand no longer, and are told anew
                    file.close()
                    file, line, number = (path / EVENTS).open("rb"), b"", 0
                continue
            digest = hashlib.sha256(line).digest()
            number += 1
            if told[number - 1 : number] != [digest]:
                told[number - 1 :] = [digest]
                event = _event_of(line.decode(), path / EVENTS, number)
                if event is not None:
                    yield event
                if isinstance(event, RunEnded):
                    return
            line = b""
    finally:
        file.close()


def _event_of(line: str, file: Path, number: int) -> Event | None:
    try:
        return from_dict(json.loads(line))
    except ValueError as error:
        raise InputError(f"{file}:{number}: this line is no event of a run: {error}") from None
