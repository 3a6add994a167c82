"""Whether a run whose server ended before it did is resumed: as long as each server gets further than the last."""

from collections.abc import Mapping
from typing import Any

_MOST = 3
"""Servers in a row that may end without a round more: whatever ended them would end the next."""


class Attempts:
    """What a run is submitted with, the first time and each time it is resumed.

    Args:
        changed: Settings by name that differ from the federation's.

    Attributes:
        changed: The same for the attempt that comes.
    """

    def __init__(self, changed: Mapping[str, Any] | None) -> None:
        self.changed = dict(changed or {})
        self._furthest, self._in_vain = 0, 0

    @property
    def resume(self) -> str:
        """The run folder that is gone on with; "" for a run that begins."""
        return str(self.changed.get("resume") or "")

    def again(self, folder: str, round_number: int) -> bool:
        """Whether to resume the run in this folder, whose server ended after this round; 0: after none."""
        self._in_vain = 0 if round_number > self._furthest else self._in_vain + 1
        self._furthest = max(self._furthest, round_number)
        self.changed["resume"] = folder
        return self._in_vain < _MOST
