"""Bad-mouthing: reversed gradients, and reviews written to praise one another and to speak against honest silos."""

import numpy as np

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation, Vector
from fedlaw_flwr.core.blocks import Floats


def slander(praised: Vector, honest: Vector) -> Vector:
    """The review praised / |praised| - honest / |honest|, (d,).

    It has a positive inner product with updates along `praised` and a negative one with updates along `honest`: to
    whoever believes it, the first lower the reviewer's loss and the second raise it.

    Args:
        praised: The direction of the attackers' updates, (d,).
        honest: The direction of the honest silos' updates, (d,).
    """
    review: Vector = units(praised) - units(honest)
    return review


def forge(situation: Situation) -> Forgery:
    """-g and the honest loss, as inverse_gradient."""
    return Forgery(-situation.update, situation.loss)


def forge_review(situation: Situation, update: Vector) -> Vector:
    """slander(mean of what the attackers send, mean honest update as far as the coalition knows it)."""
    updates = situation.coalition().updates
    own = updates[list(situation.members)] if len(updates) == situation.num_silos else updates
    return slander(-own.mean(axis=0), situation.honest_mean())


def units(rows: Floats) -> Floats:
    """Each row, or the one vector, over its l2 norm; a row of 0 stays 0."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    lengthless: Floats = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return lengthless


ATTACK = Attack(
    "bad_mouthing",
    "replies -g, and reviews that praise the attackers and speak against honest silos",
    "this project; against peer review",
    forge=forge,
    forge_review=forge_review,
)
