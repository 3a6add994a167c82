"""The weight of every silo between rounds: learned, kept through absence, lost where a score was not given."""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.schedule import Schedule
from fedlaw_flwr.core.state import State

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Of a round in which the server asked a part of the silos.

    Attributes:
        asked: Who was asked.
        prior: The weight of a silo that was never scored: 1/n.
        needed: Weights are learned until so many different silos have been scored.
    """

    asked: frozenset[Hashable]
    prior: float
    needed: int


class Standing:
    """The weight every silo was last given: kept while the silo is absent, 0 after it avoided being scored.

    Where a part of the silos is asked in a round, weights of different samples are kept on one scale: a weight w_i
    among the m silos scored is kept as w_i m / n.

    Args:
        schedule: The rounds in which weights are learned.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._standing: dict[Hashable, float] | None = None
        self._learned = 0  # the round in which w was last learned
        self._again = False
        # Of samples: who was ever scored, and who was asked and not scored in the last weight round that asked it.
        self._scored: set[Hashable] = set()
        self._unheard: set[Hashable] = set()

    def learns(self, round_number: int) -> bool:
        """Whether weights are learned in this round: by the schedule, or because too much weight went missing.

        A weight round that was skipped is made up for. Otherwise attackers could stay silent until all weight rounds
        are over, and come back to weights that were never learned.
        """
        return self._again or self._schedule.last(round_number) > self._learned

    def over(self, silos: Sequence[Hashable], prior: float = 0.0) -> Vector:
        """w over the silos present, (m,), summing to 1: their standing rescaled; 1/m before anything is learned.

        Args:
            silos: The silos present, m of them.
            prior: The standing of a silo that was never scored. Default: 0.
        """
        weights = self._weights_of(silos, prior)
        total = weights.sum()
        return weights / total if total > 0 else np.full(len(silos), 1.0 / len(silos))

    def missing(self, silos: Collection[Hashable], asked: Collection[Hashable] | None = None) -> float:
        """The share of the learned weight whose silos are not among these, 0 before anything is learned.

        Args:
            silos: The silos present.
            asked: The weight of these alone is looked at, where a part of the silos was asked; 1 where they have none.
                Default: None, of all.
        """
        if not self._standing:
            return 0.0
        everyone = sum(self._standing.values()) if asked is None else float(self._weights_of(list(asked)).sum())
        return 1.0 - float(self._weights_of(list(silos)).sum()) / everyone if everyone > 0 else 1.0

    def forfeit(self, silos: Collection[Hashable]) -> None:
        """Sets the weight of silos that sent an update and were not scored to 0, until they are scored again."""
        if self._standing is not None:
            self._standing.update((silo, 0.0) for silo in silos)

    def learn(self, silos: Sequence[Hashable], w: Vector, round_number: int, sample: Sample | None = None) -> None:
        """Takes the new weights of the silos scored.

        If weights are frozen in the next round, only the silos scored now carry weight into it. Where a part of the
        silos is asked, those carry it that were scored when a weight round last asked them; and weights are not frozen
        before enough different silos have been scored.

        Args:
            silos: The silos scored, m of them.
            w: Their new weights, (m,).
            round_number: The round in which the weights were learned.
            sample: Who was asked, where that was not everyone. Default: None.
        """
        standing = dict(self._standing or {})
        share = 1.0 if sample is None else len(silos) * sample.prior
        standing.update((silo, share * float(weight)) for silo, weight in zip(silos, w, strict=True))
        self._learned, self._again = round_number, False
        scored = set(silos)
        if sample is not None:
            self._scored |= scored
            self._unheard = (self._unheard | sample.asked) - scored
            self._again = len(self._scored) < sample.needed
            scored = self._scored - self._unheard
        if not self._again and not self._schedule.learns(round_number + 1):
            standing = {silo: weight for silo, weight in standing.items() if silo in scored}
        self._standing = standing

    def relearn(self) -> None:
        """Forgets all weights and makes the next round a weight round."""
        self._standing = None
        self._again = True
        self._scored, self._unheard = set(), set()

    def state(self) -> State:
        """See `core.state`."""
        known = None if self._standing is None else [[silo, weight] for silo, weight in self._standing.items()]
        values = {"weights": known, "learned": self._learned, "again": self._again}
        return State({**values, "scored": sorted(self._scored, key=str), "unheard": sorted(self._unheard, key=str)})

    def restore(self, state: State) -> None:
        """See `core.state`."""
        known = state.values["weights"]
        self._standing = None if known is None else {silo: float(weight) for silo, weight in known}
        self._learned, self._again = int(state.values["learned"]), bool(state.values["again"])
        self._scored, self._unheard = set(state.values["scored"]), set(state.values["unheard"])

    def _weights_of(self, silos: Sequence[Hashable], prior: float = 0.0) -> Vector:
        standing = self._standing or {}
        return np.array([standing.get(silo, prior) for silo in silos], dtype=np.float64)
