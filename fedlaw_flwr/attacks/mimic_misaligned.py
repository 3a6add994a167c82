"""Mimic misaligned: a reversed gradient with a little noise, and a loss that looks a little better than honest."""

import numpy as np

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation

ETA = 0.1
# Of the paper's 0, 0.1, 0.3 and 1.
RHO = 0.3


def forge(situation: Situation) -> Forgery:
    """-g + eta u, and the loss mean - rho std of the coalition's honest losses, at least 0 (FedLAW, I.8).

    u: a unit vector, uniform on the sphere, each silo its own in every exchange; eta = 0.1 in units of g; rho = 0.3;
    std over the m losses as they are (1/m). The paper's are the losses of the honest silos; "at least 0" is ours.
    """
    u = situation.rng.standard_normal(situation.update.size)
    losses = situation.coalition().losses
    loss = max(0.0, float(losses.mean() - RHO * losses.std()))
    return Forgery(-situation.update + ETA * u / np.linalg.norm(u), loss)


ATTACK = Attack(
    "mimic_misaligned",
    "replies -g + 0.1 u, and the colluders' mean loss less 0.3 deviations",
    "FedLAW, I.8",
    forge=forge,
)
