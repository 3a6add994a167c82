"""Files that are there whole or not at all, whatever happens to the process or the machine, and a lock on a folder."""

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedlaw_flwr.core.errors import UserError

UNFINISHED = ".unfinished"
"""How the name of a file ends that is still being written. One that is left over belongs to a process that died."""


class InUse(UserError):
    """Another process writes into this folder."""


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file, or writes it anew: on disk and whole, or as it was.

    Raises:
        OSError: As the operating system says it, with the path; nothing half written is left.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    with _about(path):
        try:
            handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            try:
                _write(handle, content)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(unfinished, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            raise
        sync_folder(path.parent)


def remove(path: Path) -> None:
    """Removes a file, if it is there."""
    with _about(path), contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def sync_folder(folder: Path) -> None:
    """Makes what was renamed in a folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Appended:
    """A file that only grows, piece by whole piece.

    Args:
        path: The file; made if it is not there.

    Attributes:
        size: How many bytes it has.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        content = path.read_bytes() if path.exists() else b""
        self.size, self._digest = len(content), hashlib.sha256(content)
        with _about(path):
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    @property
    def digest(self) -> str:
        """The SHA-256 of all of it."""
        return self._digest.hexdigest()

    def append(self, piece: bytes) -> None:
        """Adds a piece.

        Raises:
            OSError: If there is no room, with the path; nothing of the piece is in the file then.
        """
        with _about(self._path):
            try:
                _write(self._handle, piece)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._handle, self.size)
                raise
        self.size += len(piece)
        self._digest.update(piece)

    def sync(self) -> None:
        """Makes all of it last through a power cut."""
        with _about(self._path):
            os.fsync(self._handle)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._handle)


class Lock:
    """This process's alone is a folder, until `release` or until the process is gone, however that comes.

    Args:
        folder: The folder; it must be there.
        what: What it is, for the sentence: "the run".

    Raises:
        InUse: If another process has it.
    """

    def __init__(self, folder: Path, what: str) -> None:
        self._handle: int | None = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise InUse(
                f"{folder}: another process is writing {what}; wait until it has ended, or end it, and try again"
            ) from None

    def release(self) -> None:
        """Lets others in."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def is_locked(folder: Path) -> bool:
    """Whether somebody has the lock on this folder now."""
    try:
        Lock(folder, "this folder").release()
    except InUse:
        return True
    return False


def _write(handle: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(handle, left) :]


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Names the file in an error that names none, as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
