"""Sign flip with scaling: train honestly, reply -4 g."""

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation

# Ours, as papers differ. Four reversed times, a fifth of the silos outweighs the rest in a plain mean.
SCALE = 4.0


def forge(situation: Situation) -> Forgery:
    """-c g, c = 4, and the honest loss.

    Li et al., AAAI 2019 (RSA): a sign flip times a constant, there of a worker's message, which in RSA is its model.
    """
    return Forgery(-SCALE * situation.update, situation.loss)


ATTACK = Attack("sign_flip", "trains honestly and replies -4 g", "Li et al., AAAI 2019 (RSA)", forge=forge)
