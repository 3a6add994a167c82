"""The checkpoints in a run folder: two files a round, whole or not there, and what makes one unusable."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedlaw_flwr.core.durable import UNFINISHED, remove, write_whole
from fedlaw_flwr.core.errors import UserError
from fedlaw_flwr.core.state import State
from fedlaw_flwr.events.folder import EVENTS, RunFolder
from fedlaw_flwr.ledger.keys import SERVER_KEY, ServerKey, is_signed_by

CHECKPOINTS = "checkpoints"
"""The folder of the checkpoints, in the run folder."""

FORMAT = 1
"""The version of both files of a checkpoint; each says it."""

_BEGUN = "begun.json"
_NAME = re.compile(r"round-(\d+)\.json")


class Unusable(UserError):
    """A checkpoint cannot be used; the text says which and why."""


@dataclass(frozen=True)
class Checkpoint:
    """What the server knew after a round.

    Attributes:
        round: The round; 0: before the first.
        settings: The settings of the run by name, as its server was given them.
        state: What every part of the server knew.
        events: How many bytes of events there were, and their SHA-256; None where the run writes none.
    """

    round: int
    settings: Mapping[str, Any]
    state: State
    events: tuple[int, str] | None = None


@dataclass(frozen=True)
class Found:
    """What there is to go on from.

    Attributes:
        checkpoint: The newest usable checkpoint; None where there is none.
        refused: What is wrong with newer ones, a sentence each.
        begun: The last round that the server began; 0: none.
    """

    checkpoint: Checkpoint | None
    refused: tuple[str, ...] = ()
    begun: int = 0


@dataclass
class Checkpoints:
    """The checkpoints of one run.

    A checkpoint is `round-N.safetensors` with the arrays and `round-N.json` with everything else, the digest of the
    arrays and, where the server has a key, its signature of all that. The second file is written last: without it there
    is no checkpoint. Both are written whole (`core.durable.write_whole`), and then the older ones are removed.

    Args:
        folder: The run folder, open for writing.
        settings: The settings of the run by name, as its server was given them.
        keep: How many checkpoints are kept; 0: none is written.
        key: The server's key; None: checkpoints are not signed.
        resumed: The checkpoint this run goes on from; None: it begins.
        reopened: Whether the folder was there already: the run is resumed, from a checkpoint or from its beginning.
            Default: no.
        abandoned: The round in which the server before ended, after it had begun to ask silos; 0: in none. Default: 0.
    """

    folder: RunFolder
    settings: Mapping[str, Any]
    keep: int
    key: ServerKey | None = None
    resumed: Checkpoint | None = None
    reopened: bool = False
    abandoned: int = 0
    _place: Path = field(init=False)

    def __post_init__(self) -> None:
        self._place = self.folder.path / CHECKPOINTS

    def begin(self, round_number: int) -> None:
        """Notes that this round begins: after this, silos are asked."""
        if self.keep:
            self._place.mkdir(exist_ok=True)
            write_whole(self._place / _BEGUN, json.dumps({"format": FORMAT, "round": round_number}).encode())

    def save(self, round_number: int, state: State) -> None:
        """Writes the checkpoint of a round that is over, and removes those that are no longer kept.

        Raises:
            OSError: If there is no room or no permission; the checkpoints before it are still there then.
        """
        if not self.keep:
            return
        self._place.mkdir(exist_ok=True)
        write(self._place, Checkpoint(round_number, self.settings, state, self.folder.position), self.key)
        for number in rounds_in(self._place)[self.keep :]:
            remove(_json(self._place, number))
        left = set(rounds_in(self._place))
        for path in self._place.iterdir():
            named = re.fullmatch(r"round-(\d+)\.safetensors", path.name)
            if path.name.endswith(UNFINISHED) or (named and int(named[1]) not in left):
                remove(path)


def rounds_in(place: Path) -> list[int]:
    """The rounds of the checkpoints in a folder of checkpoints, the newest first; those that are unusable too."""
    names = [_NAME.fullmatch(path.name) for path in place.iterdir()] if place.is_dir() else []
    return sorted((int(name[1]) for name in names if name), reverse=True)


def write(place: Path, checkpoint: Checkpoint, key: ServerKey | None) -> None:
    """Writes one checkpoint into a folder of checkpoints."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(array, order="C") for name, array in checkpoint.state.arrays.items()}
    content = save(arrays, metadata={"format": str(FORMAT)})
    body: dict[str, Any] = {
        "format": FORMAT,
        "round": checkpoint.round,
        "settings": dict(checkpoint.settings),
        "events": None if checkpoint.events is None else list(checkpoint.events),
        "arrays": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()},
        "state": dict(checkpoint.state.values),
    }
    said = _canonical(body)
    proof = {"sha256": hashlib.sha256(said).hexdigest()}
    if key is not None:
        proof |= {"key": key.public, "ed25519": key.sign(said)}
    write_whole(_arrays(place, checkpoint.round), content)
    write_whole(_json(place, checkpoint.round), json.dumps({**body, "proof": proof}).encode() + b"\n")


def read(place: Path, round_number: int, key: ServerKey | None, events: bytes | None) -> Checkpoint:
    """One checkpoint, after a look at all of it.

    Args:
        place: The folder of checkpoints.
        round_number: The round.
        key: The server's key; None: it has none.
        events: The events of the run as they are now; None: there are none.

    Raises:
        Unusable: If it is torn, was changed, was not signed by this server, is of another format, or if the events that
            were there when it was written are not those that are there now.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = _json(place, round_number)

    def refuse(why: str) -> Unusable:
        return Unusable(f"{path.name}: {why}")

    try:
        body = json.loads(path.read_bytes())
        proof = body.pop("proof")
        said = _canonical(body)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise refuse("it is torn: this is no JSON object of a checkpoint") from None
    if body.get("format") != FORMAT:
        raise refuse(f"its format is {body.get('format')!r}, and this release reads {FORMAT}")
    if not isinstance(proof, dict) or proof.get("sha256") != hashlib.sha256(said).hexdigest():
        raise refuse("it was changed after it was written: its SHA-256 is another")
    _check_signature(proof, said, key, refuse)
    try:
        stated, number, kept = body["arrays"], int(body["round"]), body["events"]
        content = _arrays(place, round_number).read_bytes()
    except FileNotFoundError:
        raise refuse("its arrays are missing") from None
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise refuse(f"it is not whole: {type(error).__name__}") from None
    if number != round_number:
        raise refuse(f"it is of round {number}")
    if hashlib.sha256(content).hexdigest() != stated["sha256"]:
        how = "torn" if len(content) < stated["bytes"] else "changed after they were written"
        raise refuse(f"its arrays are {how}: their SHA-256 is another")
    if kept is not None and (events is None or hashlib.sha256(events[: kept[0]]).hexdigest() != kept[1]):
        raise refuse(f"the first {kept[0]} bytes of {EVENTS}, which were there when it was written, have changed")
    try:
        arrays = load(content)
    except SafetensorError as error:
        raise refuse(f"its arrays cannot be read: {error}") from None
    return Checkpoint(number, body["settings"], State(body["state"], arrays), None if kept is None else tuple(kept))


def find(folder: Path, key: ServerKey | None) -> Found:
    """The newest usable checkpoint of a run folder, and what is wrong with newer ones."""
    place = folder / CHECKPOINTS
    events = (folder / EVENTS).read_bytes() if (folder / EVENTS).exists() else None
    refused: list[str] = []
    for number in rounds_in(place):
        try:
            return Found(read(place, number, key, events), tuple(refused), _begun(place))
        except Unusable as why:
            refused.append(str(why))
    return Found(None, tuple(refused), _begun(place))


def _check_signature(proof: Mapping[str, Any], said: bytes, key: ServerKey | None, refuse: Any) -> None:
    signature = proof.get("ed25519")
    if key is None:
        if signature is not None:
            raise refuse(f"it is signed, and this server has no key to check that with; {SERVER_KEY} names its file")
    elif signature is None:
        raise refuse("it is not signed, and this server signs its checkpoints")
    elif not is_signed_by(key.public, str(signature), said):
        raise refuse(f"it is not signed with this server's key, {key.public[:16]}")


def _begun(place: Path) -> int:
    try:
        return int(json.loads((place / _BEGUN).read_bytes())["round"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _canonical(body: Mapping[str, Any]) -> bytes:
    """The bytes that are signed: the same however the file was laid out."""
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _json(place: Path, number: int) -> Path:
    return place / f"round-{number:06}.json"


def _arrays(place: Path, number: int) -> Path:
    return place / f"round-{number:06}.safetensors"
