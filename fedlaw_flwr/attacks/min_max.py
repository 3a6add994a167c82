"""Min-Max: colluders reply a point as far from their mean as it can be and no farther out than they lie apart."""

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation
from fedlaw_flwr.attacks.gamma import Spread, largest_gamma


def forge(situation: Situation) -> Forgery:
    """mu + gamma p with the largest gamma for which max_i |mu + gamma p - g_i| <= max_ij |g_i - g_j|; honest loss.

    g_i the coalition's honest updates, mu their mean, p = -std coordinate by coordinate. Shejwalkar and Houmansadr
    2021 (NDSS): Min-Max, by their search from another start (`largest_gamma`).
    """
    if not situation.wants_update:
        return situation.honestly()
    spread = Spread(situation.coalition())
    bound = spread.pairwise.max()
    gamma = largest_gamma(len(spread.pairwise), lambda gamma: bool(spread.distances(gamma).max() <= bound))
    return Forgery(spread.mean + gamma * spread.p, situation.loss)


ATTACK = Attack(
    "min_max",
    "colluders step from their mean as far as two of them are apart",
    "Shejwalkar and Houmansadr 2021 (NDSS)",
    forge=forge,
    same_for_all=True,
)
