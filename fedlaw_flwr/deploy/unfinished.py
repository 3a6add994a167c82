"""The run that a server left unfinished: the newest in a folder of runs, where it has checkpoints and no end."""

import sys
from pathlib import Path

from fedlaw_flwr.checkpoints.store import CHECKPOINTS
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.events.folder import EVENTS
from fedlaw_flwr.events.record import Run


def unfinished(runs: Path) -> str:
    """The name of the newest run's folder if its server ended before it did; "" if it ended, or if there is none.

    Args:
        runs: The folder of the run folders.
    """
    found = [path.parent for path in runs.glob(f"*/{EVENTS}")] if runs.is_dir() else []
    newest = max(found, key=lambda folder: (folder / EVENTS).stat().st_mtime, default=None)
    if newest is None or not (newest / CHECKPOINTS).is_dir() or Run.read(newest).end is not None:
        return ""
    return newest.name


def needed(name: str) -> str:
    """The name of a run that is to be resumed.

    Raises:
        InputError: If it is empty.
    """
    if not name:
        raise InputError("the newest run has ended, or there is none: there is nothing to resume")
    return name


if __name__ == "__main__":  # FOLDER: prints the name
    print(unfinished(Path(sys.argv[1])))
