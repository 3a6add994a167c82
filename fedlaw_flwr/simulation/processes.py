"""Processes found by what their environment says, and ended with all they started; where they can listen."""

import os
import signal
import socket
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from fedlaw_flwr.apps.shipped.client import LONGEST_SOCKET
from fedlaw_flwr.core.errors import InputError

_STOP = 10.0
_PREFIX = "fedlaw-"
_USUAL = Path("/tmp")
_HERE = ("localhost", "127.0.0.1")


def processes_with(variable: str, value: str, pids: Iterable[int] | None = None) -> list[int]:
    """The ids of the processes whose environment sets the variable to the value; zombies are none.

    Args:
        variable: The variable's name.
        value: Its value.
        pids: Which processes to look at. Default: all.
    """
    import psutil

    found = []
    for pid in psutil.pids() if pids is None else pids:
        try:
            process = psutil.Process(pid)
            if process.environ().get(variable) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except (psutil.Error, OSError):
            continue
    return found


def end_processes(variable: str, value: str) -> None:
    """Ends every process whose environment sets the variable to the value: politely, then, after 10 s, not."""
    import psutil

    for how in (signal.SIGTERM, signal.SIGKILL):
        left = []
        for pid in processes_with(variable, value):
            if pid == os.getpid():
                continue
            try:
                process = psutil.Process(pid)
                process.send_signal(how)
                process.send_signal(signal.SIGCONT)  # a stopped process takes no SIGTERM
                left.append(process)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=_STOP)


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def holder_of(port: int) -> str:
    """Who listens at this TCP port of this machine: "nginx, process 812", "" where the system does not tell."""
    import psutil

    try:
        found = [
            connection.pid
            for connection in psutil.net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid
        ]
        return f"{psutil.Process(found[0]).name()}, process {found[0]}" if found else ""
    except (psutil.Error, OSError):
        return ""


def folder_for_sockets(room: int) -> Path:
    """A new temporary folder, its owner's alone, short enough for Unix sockets in it.

    Args:
        room: The bytes of the longest socket's path inside the folder, with the slash before it.

    Returns:
        A folder in TMPDIR or, where that is too long, in /tmp.

    Raises:
        InputError: Where both are too long or nothing can be written there, with what to set.
    """
    wanted = Path(tempfile.gettempdir())
    for place in (wanted, _USUAL):
        if _length_in(place) + room <= LONGEST_SOCKET and os.access(place, os.W_OK | os.X_OK):
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    raise InputError(
        f"the temporary folder {wanted} is too long for Unix sockets, whose paths have {LONGEST_SOCKET} bytes at most, "
        f"and those in it would have {_length_in(wanted) + room}: set TMPDIR to a shorter folder"
    )


def without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """This environment, with no proxy between the processes of this machine."""
    changed = dict(environment)
    for name in ("NO_PROXY", "no_proxy"):
        said = [one for one in changed.get(name, "").split(",") if one]
        changed[name] = ",".join([*said, *(one for one in _HERE if one not in said)])
    return changed


def _length_in(place: Path) -> int:
    """The bytes of the path of a new folder in this one."""
    return len(os.fsencode(place)) + 1 + len(_PREFIX) + 8  # mkdtemp adds 8 characters
