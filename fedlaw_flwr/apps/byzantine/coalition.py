"""What colluding silos share: the honest updates and losses of all of them, computed once by whoever comes first."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message
from numpy.typing import NDArray

from fedlaw_flwr.apps.honest import respond, settings_of
from fedlaw_flwr.apps.wire import Asked, received_arrays
from fedlaw_flwr.attacks.base import Coalition, frozen
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.protocol.gate import REVIEW
from fedlaw_flwr.protocol.layout import Layout, Model

# The files of a run's last exchange stay behind: a later run of the same user removes what nobody touched for an hour.
_STALE = 3600.0


def honest_coalition(message: Message, context: Context, members: tuple[int, ...]) -> Coalition:
    """Each member's honest reply to this message, from its own examples and its own random stream.

    Nobody waits for a colluder's message: under a file lock the first member of an exchange runs the honest training
    of all, exactly as `respond` does, and the others read what it wrote. Of a message that asks for the loss alone
    only losses are computed. The result is a function of the run's settings and the message, not of who computed it:
    the files' names hold a digest of both, so that a leftover of another run is never read. Needs POSIX file locks.

    Args:
        message: What the server sent to the colluder that asks.
        context: The context of that colluder.
        members: The silos whose honest replies are wanted, in the order of the coalition's rows.

    Raises:
        PermissionError: If the folder for these files belongs to another user.
    """
    settings = settings_of(context)
    asked, received = Asked.of(message, settings), received_arrays(message)
    layout = Layout.of(received, settings.buffers)
    stem = f"{asked.server_round}-{asked.exchange}-{_digest(asked, received)}"
    with _locked(_folder(context)) as folder:
        _forget_before(folder, asked)
        for silo in members:
            files = _files(folder, stem, silo, asked)
            if not all(path.exists() for path in files):
                _compute(message, settings, layout, silo, files)
        read = [[np.load(path, allow_pickle=False) for path in _files(folder, stem, silo, asked)] for silo in members]
    trained = [rows[0] if rows else None for _, *rows in read]
    reviews = [rows[1] for _, *rows in read if len(rows) > 1]
    return coalition_of(layout.split(received), asked.lr, [float(loss) for loss, *_ in read], trained, reviews)


def coalition_of(
    theta: Model,
    lr: float,
    losses: Sequence[float],
    trained: Sequence[NDArray[np.floating] | None],
    reviews: Sequence[NDArray[np.float64]] = (),
) -> Coalition:
    """What members know together: the honest update of each, g in float64, and its loss.

    Args:
        theta: The model they received.
        lr: alpha, the step of their training.
        losses: The honest loss of each member, (m,).
        trained: The parameters that each member trained, (d,), or None for no update.
        reviews: The honest review of each member, (d,). Default: none, as the server asks for none.
    """
    updates = np.empty((len(trained), theta.layout.num_parameters if any(row is not None for row in trained) else 0))
    start = theta.parameters.astype(np.float64)
    for update, row in zip(updates, trained, strict=True):
        if row is not None:
            np.subtract(start, row, out=update)
            update /= lr
    said = np.array(reviews) if len(reviews) else np.empty((len(trained), 0))
    return Coalition(frozen(updates), frozen(np.array(losses)), frozen(said))


def _files(folder: Path, stem: str, silo: int, asked: Asked) -> list[Path]:
    """The member's loss, and its trained parameters and its review where they are asked for."""
    kinds = ("loss", "trained", "review")[: 1 + asked.wants_update + asked.wants_review]
    return [folder / f"{stem}-{silo}.{what}.npy" for what in kinds]


def _compute(message: Message, settings: Settings, layout: Layout, silo: int, files: list[Path]) -> None:
    """Trains as this silo would and writes the files."""
    task = settings.load_task()
    content = respond(message, settings, silo, task, task.load_train(silo)).content
    values = [np.float64(content.metric_records["metrics"]["loss"])]  # type: ignore[arg-type]
    if len(files) > 1:
        values.append(layout.split(content.array_records["arrays"]).parameters)  # type: ignore[arg-type]
    if len(files) > 2:
        said = content.array_records[REVIEW]
        values.append(layout.gradient({key: one.numpy() for key, one in said.items()}))  # type: ignore[arg-type]
    for path, value in zip(files, values, strict=True):
        _write(path, np.asarray(value))


def _write(path: Path, value: NDArray[np.floating]) -> None:
    """Writes whole or not at all: a process killed halfway leaves nothing that looks finished."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        np.save(file, value, allow_pickle=False)
    os.replace(unfinished, path)


def _forget_before(folder: Path, asked: Asked) -> None:
    """Removes the files of earlier exchanges. A straggler of one computes them again, to the same numbers."""
    for path in folder.glob("*-*"):
        server_round, exchange, *_ = path.name.split("-")
        if (int(server_round), int(exchange)) < (asked.server_round, asked.exchange):
            path.unlink()


def _folder(context: Context) -> Path:
    """This run's folder, made if need be, readable by this user alone: run-<id>-<digest of the run config>.

    An in-process run has the id 1 whatever it is, hence the digest.
    """
    home = Path(tempfile.gettempdir()) / f"fedlaw-coalitions-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.stat().st_uid != os.getuid() or home.is_symlink():
        raise PermissionError(f"{home}: belongs to another user; colluding silos need a temporary folder of their own")
    config = json.dumps(dict(context.run_config), sort_keys=True, default=str)
    folder = home / f"run-{context.run_id}-{hashlib.sha256(config.encode()).hexdigest()[:16]}"
    if not folder.exists():
        for other in home.iterdir():
            with suppress(FileNotFoundError):  # another colluder may be removing the same
                if time.time() - other.stat().st_mtime > _STALE:
                    shutil.rmtree(other, ignore_errors=True)
        folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """The folder, while this process alone may use it; the lock goes with the process, however that ends."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _digest(asked: Asked, received: ArrayRecord) -> str:
    """Of all in a message that training depends on. wants_update is not: the loss is the same either way."""
    digest = hashlib.sha256(f"{asked.lr!r} {asked.local_epochs} {asked.batch_size}".encode())
    for key, array in received.items():
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()[:16]
