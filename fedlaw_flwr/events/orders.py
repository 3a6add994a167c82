"""What an operator tells a run while it goes on: `orders.jsonl` in its folder, an object a line, read each round."""

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedlaw_flwr.core.durable import Appended, is_locked
from fedlaw_flwr.core.errors import InputError, NotThere, sentence_of
from fedlaw_flwr.events.folder import EVENTS, read_events
from fedlaw_flwr.events.types import RunEnded

ORDERS = "orders.jsonl"
PARDON, REMOVE = "pardon", "remove"


@dataclass(frozen=True)
class Order:
    """One order.

    Attributes:
        what: "pardon": ask this silo again; "remove": take it out of the federation. Anything else is not understood.
        silo: The silo's name.
    """

    what: str
    silo: str


def give(run: Path, order: Order) -> None:
    """Appends an order to a run's folder; the run carries it out before its next round.

    Raises:
        NotThere: If the folder holds no run.
        InputError: If the run has ended.
        OSError: If there is no room; nothing of the order is in the file then.
    """
    if not (run / EVENTS).exists():
        raise NotThere(f"{run}: there is no run here ({EVENTS} is missing)")
    if _has_ended(run):
        raise InputError(f"{run.name} has ended: only a run that goes on can be told to {order.what} a silo")
    line = {"order": order.what, "silo": order.silo, "given": datetime.now(UTC).isoformat(timespec="seconds")}
    orders = Appended(run / ORDERS)
    try:
        orders.append((json.dumps(line) + "\n").encode())
        orders.sync()
    finally:
        orders.close()


def newest(runs: Path) -> Path:
    """The folder under `runs` of the run that goes on: the one written last of those that a server is writing.

    Where none is, the run written last, if it has no end: its server went down, and it may be resumed. A run that was
    left unfinished long ago, with others after it, is not what anybody means.

    Raises:
        NotThere: If there is none.
    """
    folders = [log.parent for log in sorted(runs.glob(f"*/{EVENTS}"), key=lambda log: -log.stat().st_mtime_ns)]
    found = next((folder for folder in folders if is_locked(folder) and not _has_ended(folder)), None)
    if found is None and folders and not _has_ended(folders[0]):
        found = folders[0]
    if found is None:
        raise NotThere(f"{runs}: no run goes on here; a silo sits out for one run, and a new run asks every silo again")
    return found


def read_orders(run: Path, after: int) -> list[Order]:
    """The orders of a run's folder but for the first `after` lines; a line still being written is left for later."""
    path = run / ORDERS
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    return [_order(line) for line in text[: text.rfind("\n") + 1].splitlines()[after:]]


def _has_ended(run: Path) -> bool:
    return any(isinstance(event, RunEnded) for event in read_events(run))


def _order(line: str) -> Order:
    try:
        said = json.loads(line)
        return Order(str(said["order"]), str(said["silo"]))
    except (ValueError, TypeError, KeyError):
        return Order("", line[:80])


if __name__ == "__main__":  # RUNS pardon|remove SILO: so the server's container is asked
    try:
        give(newest(Path(sys.argv[1])), Order(sys.argv[2], sys.argv[3]))
    except (InputError, NotThere) as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(sentence_of(error) or str(error))
