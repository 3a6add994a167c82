"""The weight of every silo between rounds: learned, kept through absence, lost where a score was not given."""

from collections.abc import Collection, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.schedule import Schedule
from fedlaw_flwr.core.state import State

Vector = NDArray[np.float64]


class Standing:
    """The weight every silo was last given: kept while the silo is absent, 0 after it avoided being scored.

    Args:
        schedule: The rounds in which weights are learned.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._standing: dict[Hashable, float] | None = None
        self._learned = 0  # the round in which w was last learned
        self._again = False

    def learns(self, round_number: int) -> bool:
        """Whether weights are learned in this round: by the schedule, or because too much weight went missing.

        A weight round that was skipped is made up for. Otherwise attackers could stay silent until all weight rounds
        are over, and come back to weights that were never learned.
        """
        return self._again or self._schedule.last(round_number) > self._learned

    def over(self, silos: Sequence[Hashable]) -> Vector:
        """w over the silos present, (m,), summing to 1: their standing rescaled; 1/m before anything is learned."""
        weights = self._weights_of(silos)
        total = weights.sum()
        return weights / total if total > 0 else np.full(len(silos), 1.0 / len(silos))

    def missing(self, silos: Collection[Hashable]) -> float:
        """The share of the learned weight whose silos are not among these, 0 before anything is learned."""
        if not self._standing:
            return 0.0
        everyone = sum(self._standing.values())
        return 1.0 - float(self._weights_of(list(silos)).sum()) / everyone if everyone > 0 else 1.0

    def forfeit(self, silos: Collection[Hashable]) -> None:
        """Sets the weight of silos that sent an update and were not scored to 0, until they are scored again."""
        if self._standing is not None:
            self._standing.update((silo, 0.0) for silo in silos)

    def learn(self, silos: Sequence[Hashable], w: Vector, round_number: int) -> None:
        """Takes the new weights of the silos scored.

        If weights are frozen in the next round, only the silos scored now carry weight into it.

        Args:
            silos: The silos scored, m of them.
            w: Their new weights, (m,).
            round_number: The round in which the weights were learned.
        """
        standing = dict(self._standing or {})
        standing.update((silo, float(weight)) for silo, weight in zip(silos, w, strict=True))
        self._learned, self._again = round_number, False
        if not self._schedule.learns(round_number + 1):
            scored = frozenset(silos)
            standing = {silo: weight for silo, weight in standing.items() if silo in scored}
        self._standing = standing

    def relearn(self) -> None:
        """Forgets all weights and makes the next round a weight round."""
        self._standing = None
        self._again = True

    def state(self) -> State:
        """See `core.state`."""
        known = None if self._standing is None else [[silo, weight] for silo, weight in self._standing.items()]
        return State({"weights": known, "learned": self._learned, "again": self._again})

    def restore(self, state: State) -> None:
        """See `core.state`."""
        known = state.values["weights"]
        self._standing = None if known is None else {silo: float(weight) for silo, weight in known}
        self._learned, self._again = int(state.values["learned"]), bool(state.values["again"])

    def _weights_of(self, silos: Sequence[Hashable]) -> Vector:
        standing = self._standing or {}
        return np.array([standing.get(silo, 0.0) for silo in silos], dtype=np.float64)
