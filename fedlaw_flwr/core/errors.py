"""Errors whose text is a sentence for the person who gave the command; every other error is a fault of the program."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """A mistake of the person's, or what they must know: the text says what is wrong, where, and what to do.

    `InputError` is the one to raise of a value, `NotThere` and `AlreadyThere` of a file. A ValueError or an OSError
    that is no UserError was raised by a library or by a mistake in this package: the `fedlaw` command then says so.
    """


class InputError(UserError, ValueError):
    """A value, a file's content or a combination of them is wrong."""


class NotThere(UserError, FileNotFoundError):
    """A file or folder that is needed is not there."""


class AlreadyThere(UserError, FileExistsError):
    """A file or folder is there and is not overwritten."""


# What the operating system says about a path or a disk, and a person can mend.
_OF_FILES = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENOTEMPTY,
}
_OF_DISKS = {errno.ENOSPC, errno.EDQUOT}


def sentence_of(error: BaseException) -> str | None:
    """The sentence that this error has for a person.

    Args:
        error: Any error that was raised.

    Returns:
        The text of a UserError. For another error, what the operating system says of a path outside this Python
        installation, such as a file that is not there or may not be read, or of a disk that is full. None for a fault
        of the program.
    """
    if isinstance(error, UserError):
        return str(error)
    if not isinstance(error, OSError):
        return None
    if error.errno in _OF_DISKS:
        return f"{error.filename or 'the disk'}: {error.strerror}; make room and try again"
    if error.errno in _OF_FILES and isinstance(error.filename, str | bytes) and not _is_installed(error.filename):
        name = error.filename if isinstance(error.filename, str) else error.filename.decode(errors="replace")
        return f"{name}: {error.strerror}"
    return None


@contextmanager
def from_their_code() -> Iterator[None]:
    """Around code of the person's own, such as a task: what it says by a ValueError is meant for them.

    Raises:
        InputError: With the text of a ValueError that is no UserError.
    """
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error


def _is_installed(name: str | bytes) -> bool:
    """Whether this path is inside the Python installation or this package, which no person names."""
    path = Path(name if isinstance(name, str) else name.decode(errors="replace")).absolute()
    homes = {Path(sys.prefix), Path(sys.base_prefix) / "lib", Path(__file__).parents[1]}
    return any(path.is_relative_to(home) for home in homes)
