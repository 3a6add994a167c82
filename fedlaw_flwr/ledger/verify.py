"""Whether a ledger is as it was written: its chain, its signatures, and the heads that silos hold of it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from fedlaw_flwr.core.errors import NotThere
from fedlaw_flwr.core.findings import Finding, note, ok, wrong
from fedlaw_flwr.ledger.heads import Head
from fedlaw_flwr.ledger.keys import fingerprint
from fedlaw_flwr.ledger.lines import LEDGER, VERSION, chained

_SHOWN = 3


@dataclass(frozen=True)
class Written:
    """A ledger as it lies on a disk.

    Attributes:
        path: Its file.
        lines: Its lines, without one at the end that is not whole.
    """

    path: Path
    lines: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> "Written":
        """The ledger in this run folder, or in this file.

        Raises:
            NotThere: If there is none.
        """
        file = path / LEDGER if path.is_dir() else path
        if not file.exists():
            raise NotThere(f"{file}: there is no ledger here; a run keeps one where it has a run folder")
        return cls(file, tuple(file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]))

    @cached_property
    def entries(self) -> tuple[Mapping[str, Any], ...]:
        """What each line says; nothing for a line that is no JSON object."""
        return tuple(_entry(line) for line in self.lines)

    @cached_property
    def links(self) -> tuple[tuple[str, bool], ...]:
        """The digest of each line, and whether the line names the digest of the one before it."""
        return tuple(chained(self.lines))

    @property
    def run(self) -> str:
        """The ledger's id."""
        return str(self.entries[0].get("run", "")) if self.entries else ""

    @property
    def key(self) -> str:
        """The public half of the key that it names first."""
        return str(self.entries[0].get("key", "")) if self.entries else ""

    @cached_property
    def heads(self) -> tuple[Head, ...]:
        """Its heads, in order, as its own lines have them."""
        return tuple(head for at, entry in enumerate(self.entries) if (head := self._head(at, entry)))

    def of(self, kind: str) -> Iterator[Mapping[str, Any]]:
        """What the lines of this kind say, in order."""
        return (entry for entry in self.entries if entry.get("kind") == kind)

    def _head(self, at: int, entry: Mapping[str, Any]) -> Head | None:
        if entry.get("kind") != "head":
            return None
        attempt, round, lines = (_count(entry.get(name)) for name in ("attempt", "round", "lines"))
        previous, signature = str(entry.get("previous")), str(entry.get("signature"))
        return Head(self.run, attempt, round, entry.get("last") is True, lines, previous, self.key, signature)


def verify(
    ledger: Written, kept: Sequence[Head] | None = None, ended: bool | None = None, key: str = ""
) -> list[Finding]:
    """Looks for every trace of a change.

    The chain shows a line that was edited, left out or moved by someone who did not sign the ledger again. Anyone who
    can write the file can sign all of it again with a key of their own: the fingerprint of the server's key shows that.
    Whoever has the server's key can write the whole ledger anew. Only heads that silos hold show that, and a ledger
    whose end was cut off.

    Args:
        ledger: The ledger.
        kept: Heads that silos were sent; None: the ledger alone is looked at.
        ended: Whether the run's events say that it ended; None: nobody knows.
        key: The fingerprint of the server's key, as silos' logs have it; "": nobody says which key it was.

    Returns:
        What was looked at; a finding of the kind "wrong" for each thing that does not hold.
    """
    chain = list(_in_chain(ledger))
    if not chain:
        chain = [ok(f"{len(ledger.lines)} lines, each with the digest of the one before it")]
    found = [*chain, *_in_heads(ledger), *_at_the_end(ledger, ended)]
    if key:
        signed = fingerprint(ledger.key) if re.fullmatch("[0-9a-f]{64}", ledger.key) else "no key"
        found.append(
            ok("the key is the one expected")
            if signed == key
            else wrong(
                f"it is signed with {signed}, and {key} is expected: somebody wrote it anew with a key of their own"
            )
        )
    if kept is None:
        said = "no heads of silos were given: whoever has the server's key can write such a ledger anew"
        return [*found, note(f"{said}; --heads FILE takes what a silo kept")]
    return [*found, *_with_kept(ledger, kept)]


def _in_chain(ledger: Written) -> Iterator[Finding]:
    if not ledger.lines:
        yield wrong(f"{ledger.path} is empty")
        return
    first = ledger.entries[0]
    if first.get("kind") != "ledger":
        yield wrong("line 1 is not the beginning of a ledger: lines were cut or moved")
    elif first.get("version") != VERSION:
        yield wrong(f"its version is {first.get('version')}, and this release reads {VERSION}")
    broken = [number for number, (_, follows) in enumerate(ledger.links, start=1) if not follows]
    broken += [number for number, entry in enumerate(ledger.entries, start=1) if not entry]
    if broken:
        shown = ", ".join(map(str, sorted(set(broken))[:_SHOWN]))
        more = " and more" if len(set(broken)) > _SHOWN else ""
        yield wrong(
            f"line {shown}{more}: not the line that followed the one before it; a line here was edited, cut or moved"
        )


def _in_heads(ledger: Written) -> Iterator[Finding]:
    heads = ledger.heads
    if not heads:
        yield wrong("it has no signed head")
        return
    lines = [number for number, entry in enumerate(ledger.entries) if entry.get("kind") == "head"]
    forged = [head for head in heads if not head.is_genuine]
    if forged:
        yield wrong(
            f"{len(forged)} of {len(heads)} heads are not signed by the ledger's key, first that of {forged[0]}"
        )
    misplaced = [head for at, head in zip(lines, heads, strict=True) if head.lines != at]
    if misplaced:
        yield wrong(f"{misplaced[0]}: it stands at another line; lines were added, cut or moved")
    places = [(head.attempt, head.last, head.round) for head in heads]
    if any(later <= earlier for earlier, later in pairwise(places)):
        yield wrong("its rounds are not in order")
    resumed = sum(entry.get("kind") == "resumed" for entry in ledger.entries)
    if heads[-1].attempt != resumed + 1:
        yield wrong(f"its last head says attempt {heads[-1].attempt}, and it was resumed {resumed} times")
    if not forged:
        yield ok(f"{len(heads)} heads, signed with the key {fingerprint(ledger.key)}")


def _at_the_end(ledger: Written, ended: bool | None) -> Iterator[Finding]:
    after = len(ledger.lines) - (ledger.heads[-1].lines + 1 if ledger.heads else 0)
    if after > 0:
        yield note(f"the last {after} lines are under no head: the round that they belong to was not over")
    if ledger.heads and ledger.heads[-1].last:
        yield ok("it ends where the run ended")
    elif ended:
        yield wrong("its end is missing: the run's events say that the run ended, and the ledger stops before that")
    else:
        yield note(
            "it has no end: the run goes on, or was killed, or lines were cut off at the end; only heads that silos "
            "kept tell these apart"
        )


def _with_kept(ledger: Written, kept: Sequence[Head]) -> Iterator[Finding]:
    own = [head for head in kept if head.run == ledger.run]
    if not own:
        yield wrong(
            f"none of the {len(kept)} heads given is of this ledger (run {ledger.run[:8]}…): they are another run's, "
            "or the ledger was written anew"
        )
        return
    genuine = [head for head in own if head.is_genuine]
    if forged := len(own) - len(genuine):
        yield note(f"{forged} of the heads given are not signed by the key they name: they prove nothing")
    checks: tuple[tuple[Callable[[Head], bool], str], ...] = (
        (
            lambda head: head.key != ledger.key,
            "is signed with another key than the ledger's: the ledger was signed anew, or silos hold another's heads",
        ),
        (
            lambda head: head.lines > len(ledger.lines),
            f"has more lines than the {len(ledger.lines)} here: the end of the ledger was cut off",
        ),
        (
            lambda head: 0 < head.lines <= len(ledger.lines) and ledger.links[head.lines - 1][0] != head.digest,
            "has another digest than the lines here: they were changed after silos had the head",
        ),
    )
    clean = True
    for fails, what in checks:
        failing = [head for head in genuine if fails(head)]
        if failing:
            clean = False
            yield wrong(f"{len(failing)} of {len(genuine)} heads of silos: the first, of {failing[0]}, {what}")
    if clean and genuine and all(follows for _, follows in ledger.links):
        last = max(genuine, key=lambda head: head.lines)
        yield ok(f"{len(genuine)} heads that silos kept are in it, the last of {last}")
    elif not genuine:
        yield wrong("no head given is signed: nothing speaks for this ledger but itself")


def _count(value: Any) -> int:
    """The value, -1 for what is no count: no signature holds for it."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else -1


def _entry(line: str) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
