"""LIE, "a little is enough": all colluders reply their mean moved by z deviations, small enough to be believed."""

import math
from statistics import NormalDist

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation
from fedlaw_flwr.core.errors import InputError


def z_max(n: int, m: int) -> float:
    """z = Phi^-1((n - m - s) / (n - m)), s = floor(n/2 + 1) - m; never below 0.

    Baruch et al., NeurIPS 2019: s honest silos further out than the forgery make it part of a majority. With few
    attackers (m = 2 of 20) the formula gives z <= 0: no deviation wins a majority, and z = 0, the mean itself (the
    bound at 0 is ours).

    Args:
        n: How many silos there are.
        m: How many of them attack.

    Raises:
        ValueError: Where there is no z: m attackers are a majority (s <= 0), or nobody else is needed.
    """
    s = math.floor(n / 2 + 1) - m
    if not 0 < s < n - m:
        raise InputError(f"attack='lie': no z for m={m} attackers of n={n} silos (s={s}); 0 < s < n - m is needed")
    return max(0.0, NormalDist().inv_cdf((n - m - s) / (n - m)))


def forge(situation: Situation) -> Forgery:
    """mu + z sigma, coordinate by coordinate, and its own honest loss (FedLAW, I.1; Baruch et al. 2019).

    mu and sigma are mean and standard deviation (1/m, not 1/(m-1)) over the coalition's honest updates g, as Baruch
    et al. have only the attackers' own; FedLAW takes them over all clients of the round. Where the setting lie-over is
    parameters they are of the psi these silos trained, so that the update sent is mu - z sigma of their g. Which of
    the two pushes the more harmful way depends on the net: see docs/research/results.md.
    """
    if not situation.wants_update:
        return situation.honestly()
    coalition = situation.coalition()
    z = z_max(situation.num_silos, len(situation.members))
    sign = 1 if situation.lie_over == "updates" else -1
    return Forgery(coalition.mean + sign * z * coalition.deviation, situation.loss)


ATTACK = Attack(
    "lie",
    "colluders reply mu + z sigma of their honest updates",
    "Baruch et al., NeurIPS 2019; FedLAW, I.1",
    forge=forge,
    same_for_all=True,
)
