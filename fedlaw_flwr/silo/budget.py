"""What was asked of a silo in the last 24 hours: exchanges and seconds, in a file of the silo's own."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from fedlaw_flwr.core.errors import InputError

DAY = 86400.0
"""Seconds for which an exchange counts."""


@dataclass(frozen=True)
class Used:
    """What the last 24 hours took: exchanges begun, and the seconds they trained."""

    exchanges: int
    seconds: float


class Budget:
    """The exchanges of the last 24 hours in one file, by this machine's clock.

    An exchange is on disk before anything is trained for it. No run and no server has a part in the count: neither ids
    nor round numbers are looked at, and a message asked twice counts twice. An exchange that has not ended counts for
    `longest` seconds. One whose process went down counts for as long as the process was away, `longest` at most. The
    file is for one process at a time: `begin` and `end` follow one another.

    Args:
        path: The file.
        longest: The most seconds that one exchange counts for.
    """

    def __init__(self, path: Path, longest: float) -> None:
        self._path, self._longest = path, longest

    def used(self, now: float) -> Used:
        """What was used in the 24 hours before `now`.

        Args:
            now: The time, in seconds since 1970.

        Raises:
            ValueError: For a damaged file.
        """
        exchanges = self._read(now)
        return Used(len(exchanges), sum(self._longest if took is None else took for _, took in exchanges))

    def begin(self, now: float) -> None:
        """Counts an exchange, durably, before anything is trained for it."""
        self._write([*self._read(now), (now, None)])

    def end(self, now: float) -> None:
        """Notes how long the last exchange took, unless that is noted already."""
        exchanges = self._read(now)
        if exchanges and exchanges[-1][1] is None:
            begun = exchanges[-1][0]
            self._write([*exchanges[:-1], (begun, min(max(now - begun, 0.0), self._longest))])

    def _read(self, now: float) -> list[tuple[float, float | None]]:
        """When each exchange began, and its seconds."""
        if not self._path.exists():
            return []
        try:
            noted = [
                (float(begun), None if took is None else float(took))
                for begun, took in json.loads(self._path.read_text(encoding="utf-8"))
            ]
        except (ValueError, TypeError):
            raise InputError(
                f"{self._path} is damaged: look at what changed it, then remove it to begin anew"
            ) from None
        return [(begun, took) for begun, took in noted if begun > now - DAY]

    def _write(self, exchanges: list[tuple[float, float | None]]) -> None:
        """Replaces the file; whole and on disk, or as it was, whatever happens to the machine."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self._path.with_name(self._path.name + ".unfinished")
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(exchanges, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
