"""How many silos are asked in a round, who they are, and how many it takes."""

import hashlib
import math
from collections.abc import Callable, Sequence

from fedlaw_flwr.core import seeding
from fedlaw_flwr.core.errors import InputError


def sample_size(fraction: float, n: int) -> int:
    """ceil(fraction n), the number of silos asked of n."""
    # 0.3 * 10 is 3.0000000000000004 somewhere: a hair above a whole number is that number.
    return math.ceil(fraction * n - 1e-9)


def enough_asked(fraction: float, n: int, needed: int, why: str) -> None:
    """Refuses a fraction with which too few silos are asked.

    Args:
        fraction: fraction_train, above 0 and at most 1.
        n: The number of silos.
        needed: How many must be asked.
        why: What needs them, such as "2b+2 with b=4".

    Raises:
        InputError: If fewer are asked; the text has the least fraction that would do.
    """
    asked = sample_size(fraction, n)
    if fraction < 1 and asked < needed:
        least = next(
            percent / 100 for percent in range(1, 101) if percent == 100 or sample_size(percent / 100, n) >= needed
        )
        raise InputError(
            f"fraction-train={fraction:g} of n={n} silos asks {asked} in a round, and {needed} are needed ({why}): "
            f"set fraction-train to at least {least:g}"
        )


def first_that(holds: Callable[[int], bool], n: int) -> int:
    """The least number from 1 to n for which this holds; n + 1 where there is none."""
    return next((k for k in range(1, n + 1) if holds(k)), n + 1)


def draw(keys: Sequence[str], count: int, seed: int, server_round: int) -> frozenset[str]:
    """`count` of these keys, every set of them equally likely, the same for the same seed and round.

    Each key gets a number from the stream (seed, "sample", round, key), and the smallest numbers win. So whether a silo
    is drawn before another depends on these two alone: on no order, no node id and nobody else who is there.
    """
    numbered = sorted((seeding.integer(seed, "sample", server_round, _number(key)), key) for key in keys)
    return frozenset(key for _, key in numbered[:count])


def _number(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
