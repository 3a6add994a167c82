"""How long run folders are kept."""

import shutil
import sys
import time
from pathlib import Path

from fedlaw_flwr.events.folder import EVENTS


def prune(runs: Path, days: int) -> list[Path]:
    """Removes the run folders whose last event is older than `days` days. Nothing else is touched.

    Returns:
        The folders that were removed.
    """
    before = time.time() - 86400 * days
    old = [log.parent for log in runs.glob(f"run-*/{EVENTS}") if log.stat().st_mtime < before]
    for folder in old:
        shutil.rmtree(folder)
    return sorted(old)


if __name__ == "__main__":  # RUNS DAYS: prunes there and prints what was removed; so the server's container is asked
    for removed in prune(Path(sys.argv[1]), int(sys.argv[2])):
        print(removed)
