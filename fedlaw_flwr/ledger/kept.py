"""A silo's side: the heads it was sent, in files of its own, so that a ledger written anew at the server shows."""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedlaw_flwr.ledger.heads import LEDGER_HEAD, Head, contradictions, head_of, read_heads
from fedlaw_flwr.ledger.keys import fingerprint

_SHOWN = 23  # characters of a fingerprint, "SHA256:" among them

HEADS = "heads"
"""The folder in a silo's state that has its heads: a file for each run."""

_log = logging.getLogger("fedlaw.silo")


def keep_head(folder: Path, configs: Iterable[Mapping[str, Any]], silo: str) -> Head | None:
    """Keeps the head that a message brings, unless it is the one kept last.

    A head that nobody signed is not kept. One that contradicts the last of its run is kept and said in the silo's log:
    it is evidence. Nothing here ever fails a message.

    Args:
        folder: Where the heads go; it is made if it is not there.
        configs: The config records of the message.
        silo: The silo's name, for its log.

    Returns:
        The head, where it was kept.
    """
    text = _brought(configs)
    if text is None:
        return None
    head = head_of(text)
    if head is None or not head.is_genuine:
        _log.warning("%s: the server sent a ledger head that is none or that it did not sign: it is not kept", silo)
        return None
    try:
        return _keep(folder, head, silo)
    except (OSError, ValueError) as error:
        _log.error("%s: the server's ledger head could not be kept: %s", silo, error)
        return None


def not_of_the_key(configs: Iterable[Mapping[str, Any]], pinned: str, message_type: str) -> str:
    """What is wrong with the head that a message brings, at a silo that knows the server's key.

    A query need not bring one: it may come before the ledger is begun, and asks for nothing that was trained.

    Args:
        configs: The config records of the message.
        pinned: The fingerprint of the server's key, as `fingerprint` writes it.
        message_type: Flower's type of the message: "train", "evaluate" or "query", and what may follow after a dot.

    Returns:
        One sentence; "" for a head that this key signed, and where none came and none is needed.
    """
    text = _brought(configs)
    if text is None:
        is_query = message_type.partition(".")[0] == "query"
        return "" if is_query else f"the message brings no head of a ledger signed with {_short(pinned)}"
    head = head_of(text)
    if head is None or not head.is_genuine:
        return f"the message brings a ledger head that nobody signed; one signed with {_short(pinned)} is expected"
    if (signed := fingerprint(head.key)) != pinned:
        return f"the server's ledger is signed with {_short(signed)}, and {_short(pinned)} is expected"
    return ""


def _brought(configs: Iterable[Mapping[str, Any]]) -> object:
    """What a message brings as the head of the ledger; None: nothing."""
    return next((config[LEDGER_HEAD] for config in configs if LEDGER_HEAD in config), None)


def _short(fingerprint: str) -> str:
    """The beginning of a fingerprint: the sentence reaches the server, which takes 200 characters of it."""
    return f"{fingerprint[:_SHOWN]}…"


def _keep(folder: Path, head: Head, silo: str) -> Head | None:
    path = folder / f"{head.run}.jsonl"  # 32 hexadecimal digits, and no path of the server's choosing
    kept = read_heads(path) if path.exists() else []
    if kept and kept[-1] == head:
        return None
    if not kept:
        _log.info("%s: run %s… keeps a ledger, signed with %s", silo, head.run[:8], fingerprint(head.key))
    for sentence in contradictions({silo: [*kept[-1:], head]}):
        _log.error("%s: the server's ledger was changed: %s; keep %s and tell the other silos", silo, sentence, path)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and not path.read_bytes().endswith(b"\n"):  # cut off as the machine went down
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
    with path.open("a", encoding="utf-8") as file:
        file.write(head.text() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return head
