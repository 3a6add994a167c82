"""The lines of a ledger: JSON objects, each with the SHA-256 of the line before it; the digest of a model."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEDGER = "ledger.jsonl"
"""The ledger's file in a run folder."""

VERSION = 1
"""The version of the ledger written today; its first line says it."""

START = "0" * 64
"""What stands in place of a digest before the first line."""

_PREVIOUS = '{"previous":"'


def line_of(previous: str, kind: str, values: Mapping[str, Any]) -> str:
    """One line without its end: the digest of the line before, the kind, and every value that is not None.

    A number that is not finite is left out too: JSON has none.
    """
    known = {name: _plain(value) for name, value in values.items() if not _is_unknown(value)}
    return json.dumps({"previous": previous, "kind": kind, **known}, separators=(",", ":"), allow_nan=False)


def digest_of(line: str) -> str:
    """SHA-256 of a line without its end, 64 hexadecimal digits."""
    return hashlib.sha256(line.encode()).hexdigest()


def chained(lines: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """The digest of each line, and whether the line names the digest of the one before it."""
    previous = START
    for line in lines:
        follows = line.startswith(f'{_PREVIOUS}{previous}"')
        previous = digest_of(line)
        yield previous, follows


def model_digest(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """SHA-256 over a model's arrays in the order of their names: each name, dtype, shape, and bytes in C order."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        found.update(f"{name}\n{array.dtype.str}\n{array.shape}\n".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _is_unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _plain(value: Any) -> Any:
    """The value in JSON's types, without what is unknown."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items() if not _is_unknown(one)}
    if isinstance(value, tuple | list):
        return [None if _is_unknown(one) else _plain(one) for one in value]
    return value
