"""Global parameter: replies noise of the global model's scale in place of a trained model (FedLAW, I.1)."""

import numpy as np

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation

NU1, NU2 = -5.0, 1.5


def forge(situation: Situation) -> Forgery:
    """psi ~ N(nu1 mean(theta), nu2 var(theta)) independently in every coordinate, nu1 = -5, nu2 = 1.5; honest loss.

    mean and var are taken over all d coordinates of the model received, two numbers; nu2 var(theta) is a variance.
    The paper says "replaced by / perturbed with": read here as replaced. The update is (theta - psi) / alpha.
    """
    theta = situation.theta
    psi = situation.rng.normal(NU1 * theta.mean(), np.sqrt(NU2 * theta.var()), theta.size)
    return Forgery((theta - psi) / situation.lr, situation.loss)


ATTACK = Attack(
    "global_parameter", "replies Gaussian noise of the global model's mean and variance", "FedLAW, I.1", forge=forge
)
