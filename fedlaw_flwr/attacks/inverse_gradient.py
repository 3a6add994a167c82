"""Inverse gradient: train honestly, reply -g (FedLAW, I.1)."""

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation


def forge(situation: Situation) -> Forgery:
    """-g and the honest loss."""
    return Forgery(-situation.update, situation.loss)


ATTACK = Attack("inverse_gradient", "trains honestly and replies -g", "FedLAW, I.1", forge=forge)
