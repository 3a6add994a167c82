"""Min-Sum: colluders reply the farthest point from their mean that is no worse an outlier, in sum, than one of them."""

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation
from fedlaw_flwr.attacks.gamma import Spread, largest_gamma


def forge(situation: Situation) -> Forgery:
    """mu + gamma p with the largest gamma for which sum_i |mu + gamma p - g_i|^2 <= max_i sum_j |g_i - g_j|^2.

    g_i the coalition's honest updates, mu their mean, p = -std coordinate by coordinate; the honest loss.
    Shejwalkar and Houmansadr 2021 (NDSS): Min-Sum, by their search from another start (`largest_gamma`). The paper
    bounds by the largest max_i, as here; their released code by the smallest, min_i, a weaker attack.
    """
    if not situation.wants_update:
        return situation.honestly()
    spread = Spread(situation.coalition())
    bound = spread.pairwise.sum(axis=1).max()
    gamma = largest_gamma(len(spread.pairwise), lambda gamma: bool(spread.distances(gamma).sum() <= bound))
    return Forgery(spread.mean + gamma * spread.p, situation.loss)


ATTACK = Attack(
    "min_sum",
    "colluders step from their mean as far, in sum of squares, as the farthest of them",
    "Shejwalkar and Houmansadr 2021 (NDSS)",
    forge=forge,
    same_for_all=True,
)
