"""How a run is opened: begun in a new folder, or gone on with from its newest usable checkpoint."""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedlaw_flwr.checkpoints.store import CHECKPOINTS, Checkpoints, Found, find
from fedlaw_flwr.core.durable import Lock
from fedlaw_flwr.core.errors import InputError, NotThere
from fedlaw_flwr.events.folder import EVENTS, SETTINGS, RunFolder
from fedlaw_flwr.events.types import Event, OnEvent, RunEnded, RunResumed, from_dict
from fedlaw_flwr.ledger.keys import ServerKey

_log = logging.getLogger("flwr")

OF_THE_PLACE = frozenset(
    {"resume", "resume-changed", "keep-checkpoints", "run-dir", "data-dir", "download", "server-key", "matrix-in"}
)
"""Settings that say where and how a run is kept. They may be others where it is resumed, and nobody is asked."""

FIXED = frozenset({"strategy", "variant", "task", "num-silos", "seed"})
"""Settings without which what the server knows means nothing: with others it is another run."""


_NOTHING = f"{{path}}: there is no run to resume here ({SETTINGS} is missing); name a run that was begun"


def reopen(
    path: Path,
    settings: Mapping[str, Any],
    keep: int,
    key: ServerKey | None,
    changes_meant: bool = False,
    on_event: OnEvent | None = None,
) -> tuple[RunFolder, Checkpoints]:
    """The folder of a run whose server ended before the run did, ready to go on from its newest usable checkpoint.

    Where the server ended before it wrote a checkpoint the run begins anew in the same folder. Events after the
    checkpoint are taken out of the file, and are in the event that says so.

    Args:
        path: The run folder.
        settings: The settings of the run by name, as it is to go on.
        keep: How many checkpoints are kept.
        key: The server's key; None: it has none.
        changes_meant: Whether settings that differ from the run's are meant to. Default: no.
        on_event: Called with every event from now on.

    Raises:
        NotThere: If there is no run.
        InUse: If another process is writing the run.
        InputError: If it has completed, has only checkpoints that cannot be used, or if settings differ.
    """
    if not (path / SETTINGS).exists():
        raise NotThere(_NOTHING.format(path=path))
    path = path.resolve()
    lock = Lock(path, "the run")
    try:
        found = find(path, key)
        if found.checkpoint is None and found.refused:
            raise InputError(f"{path.name}: no checkpoint can be used: {'; '.join(found.refused)}")
        before = found.checkpoint.settings if found.checkpoint else json.loads((path / SETTINGS).read_text())
        if found.checkpoint is None and before.get("keep-checkpoints", keep) == 0:
            raise InputError(f"{path.name} kept no checkpoints (keep-checkpoints=0), so there is nothing to go on from")
        changed = differences(before, settings)
        _check_changes(path.name, before, changed, changes_meant)
        written = (path / EVENTS).read_bytes() if (path / EVENTS).exists() else b""
        _check_unfinished(path.name, written, changed)
        kept = found.checkpoint.events[0] if found.checkpoint and found.checkpoint.events else 0
        earlier, abandoned = _sorted(written[kept:])
        resumed = _resumed(found, abandoned, changed)
        folder = RunFolder.reopen(path, written[:kept] + earlier, resumed, lock, on_event)
    except BaseException:
        lock.release()
        raise
    for refused in resumed.refused:
        _log.warning("%s, so the checkpoint before it is taken", refused)
    _log.info("Run %s goes on with round %s; its folder: %s", path.name, resumed.round, path)
    cut = resumed.abandoned_round or 0
    return folder, Checkpoints(folder, settings, keep, key, found.checkpoint, reopened=True, abandoned=cut)


def settings_of_run(path: Path, key: ServerKey | None) -> dict[str, Any]:
    """The settings with which a run is to go on where nothing is changed: those of its newest usable checkpoint.

    Args:
        path: The run folder.
        key: The server's key; None: it has none.

    Raises:
        NotThere: If there is no run.
    """
    if not (path / SETTINGS).exists():
        raise NotThere(_NOTHING.format(path=path))
    found = find(path, key)
    return dict(found.checkpoint.settings if found.checkpoint else json.loads((path / SETTINGS).read_text()))


def holds_checkpoints(path: Path) -> bool:
    """Whether there is a run here that kept checkpoints."""
    return (path / CHECKPOINTS).is_dir()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a run has and that are others now, by name, with the value they have now.

    A setting that only one of the two names is not compared: it is of another release.
    """
    return {
        name: value
        for name, value in now.items()
        if name in before and name not in OF_THE_PLACE and _plain(before[name]) != _plain(value)
    }


def _check_changes(run: str, before: Mapping[str, Any], changed: Mapping[str, Any], meant: bool) -> None:
    listed = ", ".join(f"{name}={value!r} (was {before[name]!r})" for name, value in changed.items())
    fixed = sorted(FIXED & changed.keys())
    if fixed:
        raise InputError(f"{run} cannot go on with another {', '.join(fixed)}: {listed}; begin a run of its own")
    if changed and not meant:
        raise InputError(
            f"{run} would go on with other settings than it began with: {listed}; leave them as they were, or say that "
            "they are meant (resume-changed=true, or `fedlaw resume --changed`)"
        )


def _check_unfinished(run: str, written: bytes, changed: Mapping[str, Any]) -> None:
    last = written.rstrip(b"\n").rpartition(b"\n")[2]
    end = next(iter(_events([last])), None)
    if isinstance(end, RunEnded) and end.status == "completed" and "num-rounds" not in changed:
        raise InputError(f"{run} has completed all of its rounds, and there is nothing left to resume")


def _sorted(tail: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Of the lines after a checkpoint, those that say that the run was resumed, which stay, and those that do not."""
    stay, abandoned = b"", list[str]()
    for line in tail.splitlines(keepends=True):
        event = next(iter(_events([line])), None)
        if isinstance(event, RunResumed) and line.endswith(b"\n"):
            stay += line
        else:
            abandoned.append(line.decode(errors="replace").rstrip("\n"))
    return stay, tuple(abandoned)


def _resumed(found: Found, abandoned: tuple[str, ...], changed: Mapping[str, Any]) -> RunResumed:
    done = found.checkpoint.round if found.checkpoint else 0
    return RunResumed(
        round=done + 1,
        checkpoint=found.checkpoint.round if found.checkpoint else None,
        abandoned_round=found.begun if found.begun > done else None,
        abandoned=abandoned,
        refused=found.refused,
        changed=dict(changed),
    )


def _events(lines: Iterable[bytes]) -> Iterable[Event]:
    for line in lines:
        try:
            event = from_dict(json.loads(line))
        except ValueError:
            continue
        if event is not None:
            yield event


def _plain(value: Any) -> Any:
    """The value as a file has it, for a comparison."""
    return json.loads(json.dumps(value, default=str))
