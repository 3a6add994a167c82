"""Processes found by what their environment says, and ended with all they started; a port for one to listen on."""

import os
import signal
import socket
from collections.abc import Iterable

_STOP = 10.0


def processes_with(variable: str, value: str, pids: Iterable[int] | None = None) -> list[int]:
    """The ids, of these processes or of all, whose environment sets the variable to the value; zombies are none."""
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
