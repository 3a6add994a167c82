"""Support max: colluders move against the honest mean as far as honest reviews let them, and bad-mouth."""

import numpy as np

from fedlaw_flwr.attacks.bad_mouthing import slander, units
from fedlaw_flwr.attacks.base import Attack, Forgery, Situation, Vector
from fedlaw_flwr.core.blocks import Floats

_STEPS = np.linspace(1.0, -1.0, 201)  # kappa = 1, 0.99, ..., -1


def most_harmful(updates: Floats, reviews: Floats) -> Vector:
    """The u all members send, against peer review's own measure of support.

    With e = mu / |mu|, mu the mean of the updates, v the unit vector of the reviews' mean direction without its part
    along e, and R the median norm of the updates:
        u = R (-kappa e + sqrt(1 - kappa^2) v)
    kappa is the harm. It is the largest of 1, 0.99, ..., -1 for which the mean cosine of u with the reviews is at least
    the median over the updates of theirs: reviewers like u no less than they like half of the honest; -1 where there is
    none.

    Args:
        updates: The honest updates known, (m, d).
        reviews: The honest reviews known, (m, d).

    Returns:
        u, (d,).
    """
    mu, radius = updates.mean(axis=0), float(np.median(np.linalg.norm(updates, axis=1)))
    towards = units(reviews).mean(axis=0)
    liked = float(np.median(units(updates) @ towards))
    length = float(np.linalg.norm(mu))
    e = mu / length if length > 0 else mu
    v = towards - (towards @ e) * e
    across = float(np.linalg.norm(v))
    v = v / across if across > 0 else v
    support = -_STEPS * (e @ towards) + np.sqrt(1 - _STEPS**2) * (v @ towards)
    allowed = np.flatnonzero(support >= liked)
    kappa = float(_STEPS[allowed[0]]) if allowed.size else -1.0
    u: Vector = radius * (np.sqrt(1 - kappa**2) * v - kappa * e)
    return u


def forge(situation: Situation) -> Forgery:
    """u of `most_harmful` where reviews are asked for, else -g; the least of the coalition's honest losses.

    White box: it knows the measure. Of data it knows the coalition's alone; with knowledge = "omniscient" the honest
    silos' updates and reviews of this exchange.
    """
    loss = float(situation.coalition().losses.min())
    if situation.review is None or not situation.wants_update:
        return Forgery(-situation.update, loss)
    return Forgery(most_harmful(situation.honest_updates(), situation.honest_reviews()), loss)


def forge_review(situation: Situation, update: Vector) -> Vector:
    """slander(what the attackers send, mean honest update as far as the coalition knows it)."""
    return slander(update, situation.honest_mean())


ATTACK = Attack(
    "support_max",
    "colluders move against the honest mean as far as honest reviews let them, and bad-mouth",
    "this project; against peer review",
    forge=forge,
    forge_review=forge_review,
    same_for_all=True,
)
