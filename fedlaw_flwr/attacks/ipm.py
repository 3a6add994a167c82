"""Inner product manipulation: colluders reply their mean reversed and small, which no distance gives away."""

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation

# Small, so that it slips into the rules that pick by distance; Karimireddy et al.'s code (2021, 2022) takes it too.
EPSILON = 0.1


def forge(situation: Situation) -> Forgery:
    """-eps mu, mu the mean of the coalition's honest updates, eps = 0.1; its own honest loss.

    Xie, Koyejo and Gupta, UAI 2019 (Fall of Empires): the aggregate's inner product with the true gradient
    becomes negative. Their mu is the mean over the honest silos; here it is over whom the coalition knows.
    """
    if not situation.wants_update:
        return situation.honestly()
    return Forgery(-EPSILON * situation.coalition().mean, situation.loss)


ATTACK = Attack(
    "ipm", "colluders reply -0.1 times their honest mean", "Xie et al., UAI 2019 (Fall of Empires)", forge=forge
)
