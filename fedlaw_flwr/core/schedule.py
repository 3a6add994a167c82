"""The rounds in which weights are learned, and those in which they stay as they are."""

import math
from dataclasses import dataclass

from fedlaw_flwr.core.errors import InputError


@dataclass(frozen=True)
class Schedule:
    """The rounds in which the weights w are learned.

    Attributes:
        weight_rounds: Weights are learned up to this round; -1: in all rounds. Default: 20.
        refresh_every: After `weight_rounds`, weights are learned in one round of so many; 0: never. Default: 0.
        warm_rounds: In so many rounds at the start weights are equal and not learned. Default: 0.

    Raises:
        ValueError: If `warm_rounds` is negative, or leaves no weight round.
    """

    weight_rounds: int = 20
    refresh_every: int = 0
    warm_rounds: int = 0

    def __post_init__(self) -> None:
        if self.warm_rounds < 0 or (self.warm_rounds and 0 <= self.weight_rounds <= self.warm_rounds):
            raise InputError(
                f"warm_rounds={self.warm_rounds}: of weight_rounds={self.weight_rounds} these are the first, with "
                "equal weights, and one at least is left to learn them; 0 is off"
            )

    def learns(self, round_number: int) -> bool:
        """Whether round_number (from 1) is a weight round."""
        return 0 < round_number == self.last(round_number)

    def carriers(self, round_number: int, first: int, s: int) -> int:
        """How many silos may carry weight in a round where b is not known (FedLAW, I.2).

        The number is `first` in the first weight round, and s from round `weight_rounds` on. Between them it is lowered
        in equal steps, rounded up. The paper names no steps; these are ours. The schedule must have at least two weight
        rounds.

        Args:
            round_number: The round, from 1.
            first: The number of carriers in the first weight round.
            s: The number of carriers in round `weight_rounds` and after it.
        """
        begun = max(0, round_number - 1 - self.warm_rounds)
        over = min(1.0, begun / (self.weight_rounds - 1 - self.warm_rounds))
        return first - math.floor((first - s) * over + 1e-9)

    def last(self, round_number: int) -> int:
        """The last weight round up to round_number, 0 if there was none."""
        if round_number <= self.warm_rounds:
            return 0
        if self.weight_rounds < 0 or round_number <= self.weight_rounds:
            return round_number
        if self.refresh_every <= 0:
            return self.weight_rounds
        return round_number - (round_number - self.weight_rounds) % self.refresh_every
