"""Inner product manipulation: colluders reply their mean reversed and small, which no distance gives away."""

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation

# The small one of Xie et al.'s values: it slips into the rules that pick by distance.
EPSILON = 0.1


def forge(situation: Situation) -> Forgery:
    """-eps mu, mu the mean of the coalition's honest updates, eps = 0.1; its own honest loss.

    Xie, Koyejo and Gupta 2020 (Fall of Empires): the aggregate's inner product with the true gradient
    becomes negative.
    """
    if not situation.wants_update:
        return situation.honestly()
    return Forgery(-EPSILON * situation.coalition().updates.mean(axis=0), situation.loss)


ATTACK = Attack("ipm", "colluders reply -0.1 times their honest mean", "Xie et al. 2020 (Fall of Empires)", forge=forge)
