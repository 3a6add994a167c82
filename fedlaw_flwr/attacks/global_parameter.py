"""Global parameter: replies noise of the global model's scale, alone or added to that model (FedLAW, I.1)."""

import numpy as np

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation

NU1, NU2 = -5.0, 1.5


def forge(situation: Situation) -> Forgery:
    """psi = noise, or theta + noise if the setting global-parameter is perturbed; the update is (theta - psi) / alpha.

    noise ~ N(nu1 mean(theta), nu2 var(theta)) independently in every coordinate, nu1 = -5, nu2 = 1.5; mean and var over
    all d coordinates of the model received, two numbers; nu2 var(theta) is a variance. Both are readings of the paper's
    "replaced by / perturbed with". The loss is the honest one.
    """
    theta = situation.theta
    noise = situation.rng.normal(NU1 * theta.mean(), np.sqrt(NU2 * theta.var()), theta.size)
    psi = noise if situation.global_parameter == "replaced" else theta + noise
    return Forgery((theta - psi) / situation.lr, situation.loss)


ATTACK = Attack(
    "global_parameter", "replies Gaussian noise of the global model's mean and variance", "FedLAW, I.1", forge=forge
)
