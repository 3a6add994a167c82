"""Scores gathered over rounds: what each silo's earlier scores still count for."""

from collections.abc import Collection, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.state import State

Vector = NDArray[np.float64]


class ScoreHistory:
    """The gathered scores y of every silo: y <- decay * y + e in each weight round.

    e is the silo's score of this round without the weight it starts from. With decay = 1, and the weights the
    projection of 1/m + y, this is dual averaging (lazy projection; Zinkevich 2003, section 2.2; Xiao 2010).
    """

    def __init__(self) -> None:
        self._total: dict[Hashable, float] = {}

    def add(self, silos: Sequence[Hashable], scores: Vector, decay: float, first: float | None = None) -> Vector:
        """The gathered scores y of these silos, (m,), after this round's.

        e is taken about its median and cut at +-1, which is all the weight there is: whatever a silo reports, it moves
        no other silo's score. A silo scored for the first time starts from the least y there is.

        Args:
            silos: The silos scored, m of them.
            scores: Their scores of this round, (m,).
            decay: How much each earlier round counts of the one after it, in [0, 1].
            first: What a silo starts from that is scored for the first time. Default: the least y there is.
        """
        least = min(self._total.values(), default=0.0) if first is None else first
        past = np.array([self._total.get(silo, least) for silo in silos])
        y: Vector = decay * past + np.clip(scores - np.median(scores), -1.0, 1.0)
        self._total.update(zip(silos, y.tolist(), strict=True))
        return y

    def lower(self, silos: Collection[Hashable]) -> None:
        """Sets these silos to the least y there is: a silo that avoids being scored does not keep a good record."""
        least = min(self._total.values(), default=0.0)
        self._total.update((silo, least) for silo in silos if silo in self._total)

    def forget(self) -> None:
        """Forgets all rounds."""
        self._total = {}

    def state(self) -> State:
        """See `core.state`."""
        return State({"total": [[silo, y] for silo, y in self._total.items()]})

    def restore(self, state: State) -> None:
        """See `core.state`."""
        self._total = {silo: float(y) for silo, y in state.values["total"]}
