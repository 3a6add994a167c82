"""What an attack is: poisoned examples before training, or a forged update and loss after it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fedlaw_flwr.tasks.base import Examples

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Situation:
    """What a Byzantine silo knows when it must answer. Vectors are flat parameters, updates in units of g."""

    round_number: int
    exchange: int
    wants_update: bool
    theta: Vector  # (d,) the model received
    update: Vector  # (d,) g, the pseudo-gradient its honest training gave
    loss: float  # the loss of its honest training
    rng: np.random.Generator


@dataclass(frozen=True)
class Forgery:
    """What the silo sends instead: an update in units of g, and a loss."""

    update: Vector
    loss: float


@dataclass(frozen=True)
class Attack:
    """One attack: `poison` changes what it trains on, `forge` what it replies; either may be None."""

    name: str
    summary: str
    source: str
    poison: Callable[["Examples", int, np.random.Generator], "Examples"] | None = None
    forge: Callable[[Situation], Forgery] | None = None
