"""A ledger's head: the digest of its lines so far, signed; and whether the heads of several silos tell one story."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedlaw_flwr.core.errors import InputError, NotThere
from fedlaw_flwr.ledger.keys import ServerKey, is_signed_by

LEDGER_HEAD = "ledger-head"
"""Under which a message's config has the last head, as JSON text."""

HEAD_ALONE = "head"
"""What `reply` of a message's config says where the message brings the last head and asks for nothing."""

_LONGEST = 2000
_DIGITS = {"run": 32, "digest": 64, "key": 64, "signature": 128}
_LENGTH = 420  # of a head as text: of names 92, of digits 288, of numbers 40
_SIGNED = b"fedlaw ledger head, version 1\n"


@dataclass(frozen=True)
class Head:
    """The ledger of one run as it stood at the end of a round.

    Attributes:
        run: The ledger's id, 32 random hexadecimal digits.
        attempt: How often a server had begun to write it: 1, and one more for each time the run was resumed.
        round: The round it stands after; 0 before the first.
        last: Whether the run had ended.
        lines: How many lines there were.
        digest: SHA-256 of the last of them, which names the digest of the line before it, and so on to the first.
        key: The public half of the server's key.
        signature: The signature of all of this.
    """

    run: str
    attempt: int
    round: int
    last: bool
    lines: int
    digest: str
    key: str
    signature: str

    @classmethod
    def signed(cls, key: ServerKey, run: str, attempt: int, round: int, last: bool, lines: int, digest: str) -> "Head":
        """A head with the signature of this key."""
        told = run, attempt, round, last, lines, digest, key.public
        return cls(*told, key.sign(_content(*told)))

    @property
    def is_genuine(self) -> bool:
        """Whether the signature is that of the key it names."""
        told = self.run, self.attempt, self.round, self.last, self.lines, self.digest, self.key
        return is_signed_by(self.key, self.signature, _content(*told))

    def text(self) -> str:
        """The head as one line of JSON, as messages and files have it.

        It is filled up with blanks, so that the messages of a resumed run are as long as those of one never killed.
        """
        return json.dumps(asdict(self), separators=(",", ":")).ljust(_LENGTH)

    def __str__(self) -> str:
        begun = f", attempt {self.attempt}" if self.attempt > 1 else ""
        where = "the end" if self.last else f"round {self.round}"
        return f"{where}{begun}: {self.lines} lines, {self.digest[:16]}…"


def head_of(text: Any) -> Head | None:
    """The head that this text is, whoever signed it; None for anything else."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or set(found) != set(Head.__dataclass_fields__):
        return None
    if not all(isinstance(found[name], str) and _is_hex(found[name], count) for name, count in _DIGITS.items()):
        return None
    numbers = [found[name] for name in ("attempt", "round", "lines")]
    if not all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers):
        return None
    if not isinstance(found["last"], bool):
        return None
    return Head(**found)


def read_heads(path: Path) -> list[Head]:
    """The heads in a silo's file, or in all files of a folder of such, in order; a last line cut off is left out.

    Args:
        path: A file with a head in each line, or a folder with such files, named *.jsonl.

    Raises:
        NotThere: If there is neither.
        InputError: If a line is no head.
    """
    if path.is_dir():
        files = sorted(path.glob("*.jsonl"))
        if not files:
            raise NotThere(f"{path}: no file of heads (*.jsonl) is in this folder")
        return [head for file in files for head in read_heads(file)]
    if not path.exists():
        raise NotThere(f"{path}: there is no such file; a silo keeps its heads in the folder `heads` of its state")
    heads = []
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1):
        head = head_of(line)
        if head is None:
            raise InputError(f"{path}:{number}: this line is no head of a ledger")
        heads.append(head)
    return heads


def contradictions(kept: Mapping[str, Sequence[Head]]) -> list[str]:
    """Where heads kept by silos cannot be those of one ledger that only ever grew.

    Args:
        kept: The heads that each holder has, by the holder's name.

    Returns:
        A sentence for each contradiction, the run named; empty where the heads agree.
    """
    found = []
    runs: dict[str, list[tuple[Head, str]]] = {}
    for holder, heads in kept.items():
        for head in heads:
            if head.is_genuine:
                runs.setdefault(head.run, []).append((head, holder))
            else:
                found.append(f"{holder}: the head of {head} is not signed by the key it names: it proves nothing")
    for run, heads_of_run in runs.items():
        found += [f"run {run[:8]}…: {sentence}" for sentence in dict.fromkeys(_contradictions(heads_of_run))]
    return found


def _contradictions(heads: Iterable[tuple[Head, str]]) -> Iterator[str]:
    ordered = sorted(heads, key=lambda one: (one[0].lines, _place(one[0])))
    keys: dict[str, str] = {}
    places: dict[tuple[int, bool, int], tuple[Head, str]] = {}
    before: tuple[Head, str] | None = None
    for head, holder in ordered:
        keys.setdefault(head.key, holder)
        first, whose = places.setdefault(_place(head), (head, holder))
        if (first.lines, first.digest) != (head.lines, head.digest):
            yield f"{whose} was told {first}, and {holder} was told {head}: one ledger has one of them"
        elif before is not None and not _follows(before[0], head):
            yield f"{before[1]} was told {before[0]}, and {holder} was told {head}: one ledger cannot have both"
        before = head, holder
    if len(keys) > 1:
        told = "; ".join(f"{holder}: {key[:16]}…" for key, holder in keys.items())
        yield f"its heads were signed with {len(keys)} keys ({told})"


def _place(head: Head) -> tuple[int, bool, int]:
    """Where in the run a head stands: a ledger has at most one there, and they are in this order."""
    return head.attempt, head.last, head.round


def _follows(earlier: Head, later: Head) -> bool:
    """Whether a ledger with the first head can have had the second afterwards, or is the same."""
    if earlier.lines == later.lines:
        return _place(earlier) == _place(later) and earlier.digest == later.digest
    return _place(earlier) < _place(later)


def _content(run: str, attempt: int, round: int, last: bool, lines: int, digest: str, key: str) -> bytes:
    """What is signed."""
    return _SIGNED + json.dumps([run, attempt, round, last, lines, digest, key]).encode()


def _is_hex(text: str, digits: int) -> bool:
    return re.fullmatch(f"[0-9a-f]{{{digits}}}", text) is not None
