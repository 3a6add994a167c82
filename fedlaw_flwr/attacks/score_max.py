"""Score max: colluders move against the mean as far as FedLAW's own score still rates them with the honest."""

import numpy as np

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation, Vector

# kappa = 1, 0.99, ..., -1.
_STEPS = np.linspace(1.0, -1.0, 201)


def most_harmful(updates: np.ndarray[tuple[int, ...], np.dtype[np.float64]], share: float, direction: Vector) -> Vector:
    """The u all members send.

    FedLAW scores a silo by <g, z> (Algorithm 2), z the weighted mean of exchange 2, in which the colluders' own u has
    weight a: z(u) = (1 - a) mu + a u, mu the mean of the g_i, which stands for the honest silos' updates.
        u = R (-kappa e + sqrt(1 - kappa^2) v)
    with e = mu / |mu|, v the unit vector of `direction` without its part along mu, and R the median norm of the g_i,
    which clipping leaves alone. <u, mu> = -kappa R |mu|: kappa is the harm. It is the largest of 1, 0.99, ..., -1 with
        <u, z(u)> >= median_i <g_i, z(u)>
    that is, no worse a score than half of the honest; -1, which earns most, where there is none. R > |mu| (1 - a) / a
    or so gives kappa = 1: among unlike silos a large coalition turns z to itself.

    Args:
        updates: The members' honest updates g_i, (m, d).
        share: a, the members' share of the weight.
        direction: (d,), what u turns towards where it may not go straight against mu.

    Returns:
        u, (d,).
    """
    mu, radius = updates.mean(axis=0), float(np.median(np.linalg.norm(updates, axis=1)))
    length = float(np.linalg.norm(mu))
    e = mu / length if length > 0 else np.zeros_like(mu)
    v = direction - (direction @ e) * e
    v /= np.linalg.norm(v)
    along, aside = updates @ e, updates @ v
    kappa = -1.0
    for tried in _STEPS:
        across = np.sqrt(1 - tried**2)
        own = -(1 - share) * radius * length * tried + share * radius**2
        honest = (1 - share) * length * along + share * radius * (across * aside - tried * along)
        if own >= np.median(honest):
            kappa = float(tried)
            break
    u: Vector = radius * (np.sqrt(1 - kappa**2) * v - kappa * e)
    return u


def forge(situation: Situation) -> Forgery:
    """u of `most_harmful` with a = m / n, one v for all members and the whole run; the least of their honest losses.

    White box in that it knows the score and the clipping; of data it knows the coalition's alone. A loss that an honest
    silo really has is one no filter may object to.
    """
    coalition = situation.coalition()
    loss = float(coalition.losses.min())
    if not situation.wants_update:
        return Forgery(situation.update, loss)
    direction = situation.shared_rng.standard_normal(situation.theta.size)
    share = len(situation.members) / situation.num_silos
    return Forgery(most_harmful(coalition.updates, share, direction), loss)


ATTACK = Attack(
    "score_max",
    "colluders move against their mean as far as FedLAW's score lets them, least loss",
    "this project; against FedLAW, Algorithm 2",
    forge=forge,
    same_for_all=True,
)
