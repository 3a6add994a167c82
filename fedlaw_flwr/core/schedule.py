"""The rounds in which weights are learned, and those in which they stay as they are."""

import math
from dataclasses import dataclass

from fedlaw_flwr.core.errors import InputError


@dataclass(frozen=True)
class Schedule:
    """When w is learned: up to round weight_rounds (-1: in all), then in one round of refresh_every (0: never).

    In the first warm_rounds weights are equal. Raises ValueError where no weight round would be left.
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
        """How many may carry weight in round_number where b is not known (FedLAW, I.2): first in the first weight
        round, s from the last, weight_rounds, on, lowered in equal steps between (rounded up). The paper names no
        steps; these are ours. Two weight rounds at least."""
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
