"""Ways to learn aggregation weights, one a file; adding one is a file here and a line in LEARNERS.

Every file defines LEARNER (see `interface.Learner`) and is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fedlaw_flwr.core.errors import InputError

if TYPE_CHECKING:
    from fedlaw_flwr.learners.interface import Learner

LEARNERS = (
    # the paper's
    "fedlaw",
    "bsum",
    # where silos review one another's updates
    "review",
    # for clients that report no loss
    "alignment",
    # studied in docs/research/defences.md
    "momentum",
    "stable",
    "falling",
    "falling_sqrt",
    "normalised",
    "ranks",
    "relearn_from_equal",
)
"""The names `variant` allows."""


def load_learner(name: str) -> "Learner":
    """The way to learn weights of this name.

    Raises:
        ValueError: For another name; the text lists the names there are.
    """
    if name not in LEARNERS:
        raise InputError(f"variant={name!r}: allowed are {', '.join(LEARNERS)}")
    learner: Learner = import_module(f"fedlaw_flwr.learners.{name}").LEARNER
    return learner
