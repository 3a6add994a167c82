"""Writes a ledger: lines that are only ever appended, a signed head after each round, and on after a resumption."""

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedlaw_flwr.core.durable import Appended
from fedlaw_flwr.core.errors import AlreadyThere, InputError, NotThere
from fedlaw_flwr.ledger.heads import Head
from fedlaw_flwr.ledger.keys import ServerKey, fingerprint
from fedlaw_flwr.ledger.lines import START, VERSION, chained, digest_of, line_of


class Ledger:
    """The ledger of one run, open for writing. A head is on disk before it is returned, and so before a silo has it.

    Lines are written together with the head that signs them, in one piece. `create` begins a ledger, `restore` goes on
    with one.

    Attributes:
        head: The last head; there is always one, since the first line has its own.
    """

    head: Head

    def __init__(self, path: Path, key: ServerKey, run: str, attempt: int) -> None:
        self._path, self._file, self._key = path, Appended(path), key
        self._run, self._attempt = run, attempt
        self._last, self._lines = START, 0
        self._unwritten: list[str] = []

    @classmethod
    def create(cls, path: Path, key: ServerKey) -> "Ledger":
        """Begins a ledger.

        Args:
            path: Its file.
            key: The server's key, which signs every head.

        Raises:
            AlreadyThere: If the file exists: a ledger is never overwritten.
        """
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            raise AlreadyThere(f"{path} is there already: a ledger is never overwritten") from None
        ledger = cls(path, key, secrets.token_hex(16), 1)
        ledger.write("ledger", version=VERSION, run=ledger._run, key=key.public)
        ledger.seal(0)
        return ledger

    @classmethod
    def restore(cls, path: Path, key: ServerKey, state: Mapping[str, Any], abandoned_round: int = 0) -> "Ledger":
        """Goes on with a ledger after its server went down.

        What was written after the state was taken stays: a line `resumed` names the heads of the rounds that are run
        again, so that a silo which has one of them still finds it. A line that was cut off in the middle of writing is
        removed; no head can have named it.

        Args:
            path: The ledger's file.
            key: The server's key, the one that the ledger began with.
            state: What `state()` gave in the round from which the run goes on.
            abandoned_round: The round in which the server before ended, after it had begun to ask silos; it is run
                again. 0: in none. Default: 0.

        Raises:
            NotThere: If there is no such file.
            InputError: If the ledger does not have what the state says, its lines are not chained, or its key is
                another one: someone changed it.
        """
        if not path.exists():
            raise NotThere(f"{path} is missing: the run cannot go on with its ledger; put the file back")
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        lines = whole.decode("utf-8", errors="replace").split("\n")[:-1]
        digests = []
        for number, (digest, follows) in enumerate(chained(lines), start=1):
            if not follows:
                raise InputError(f"{path}:{number}: this line does not follow the one before it; see `fedlaw ledger`")
            digests.append(digest)
        said = int(state["lines"])
        if not 0 < said <= len(lines) or digests[said - 1] != state["head"]:
            raise InputError(
                f"{path} is not the ledger of this checkpoint: line {said} of {len(lines)} has another digest than the "
                "checkpoint says; lines were changed or cut"
            )
        if f'"key":"{key.public}"' not in lines[0]:
            raise InputError(f"{path} was begun with another server key than {fingerprint(key.public)}")
        if len(whole) < len(text):
            os.truncate(path, len(whole))
        ledger = cls(path, key, str(state["run"]), _attempts(lines) + 1)
        ledger._last, ledger._lines = digests[-1], len(lines)
        abandoned = [found for at, line in enumerate(lines) if at > said and (found := _sealed(line))]
        ledger.write(
            "resumed",
            attempt=ledger._attempt,
            round=state["round"],
            head=state["head"],
            abandoned_round=abandoned_round or None,
            abandons=[{"round": number, "head": digest} for number, digest in abandoned],
            unsealed=_unsealed(lines),
        )
        ledger.seal(int(state["round"]))
        return ledger

    @classmethod
    def restore_whole(cls, path: Path, key: ServerKey, abandoned_round: int = 0) -> "Ledger":
        """Goes on with a ledger whose server went down before its first checkpoint: only its first line is sure.

        Raises:
            InputError: As in `restore`.
        """
        first, end, _ = path.read_text(encoding="utf-8", errors="replace").partition("\n")
        if not end:  # not one line was whole, so no head can have named it
            path.unlink()
            return cls.create(path, key)
        if not first.startswith(f'{{"previous":"{START}","kind":"ledger"'):
            raise InputError(f"{path}:1: the first line of a ledger is expected; someone changed it")
        state = {"run": json.loads(first)["run"], "round": 0, "lines": 1, "head": digest_of(first)}
        return cls.restore(path, key, state, abandoned_round)

    def write(self, kind: str, **values: Any) -> None:
        """Adds a line; it is in the file with the next head.

        Args:
            kind: What kind of line it is.
            **values: What it says, JSON's types; hyphens take the place of underscores in names.
        """
        line = line_of(self._last, kind, {name.replace("_", "-"): value for name, value in values.items()})
        self._unwritten.append(line + "\n")
        self._last, self._lines = digest_of(line), self._lines + 1

    def seal(self, round: int, last: bool = False) -> Head:
        """Signs what is written so far, and brings it to the disk.

        Args:
            round: The round that has ended.
            last: Whether the run has. Default: no.

        Raises:
            OSError: If there is no room, with the path; the file is as it was then.
        """
        head = Head.signed(self._key, self._run, self._attempt, round, last, self._lines, self._last)
        self.write("head", attempt=head.attempt, round=round, last=last, lines=head.lines, signature=head.signature)
        self._write()
        self._file.sync()
        self.head = head
        return head

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from the last head: JSON's types."""
        return {"run": self._run, "round": self.head.round, "lines": self.head.lines, "head": self.head.digest}

    def close(self) -> None:
        """Closes the file; lines under no head are written if there is room, for whoever looks what went on last."""
        with suppress(OSError):
            self._write()
        self._file.close()

    def _write(self) -> None:
        if self._unwritten:
            self._file.append("".join(self._unwritten).encode())
            self._unwritten.clear()


def _sealed(line: str) -> tuple[int, str] | None:
    """The round and the digest of a head's line; None for another line."""
    found = json.loads(line)
    return (found["round"], found["previous"]) if found["kind"] == "head" else None


def _attempts(lines: list[str]) -> int:
    return 1 + sum('"kind":"resumed"' in line[:100] for line in lines)


def _unsealed(lines: list[str]) -> int:
    """How many lines at the end no head covers: those of a round that was not over."""
    for count, line in enumerate(reversed(lines)):
        if '"kind":"head"' in line[:100]:
            return count
    return len(lines)
