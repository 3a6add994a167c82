"""Loss forging, tiny: a poisoned update (flipped labels) and a loss of 1e-9, positive but below any honest one."""

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation
from fedlaw_flwr.attacks.label_flipping import poison

TINY = 1e-9


def forge(situation: Situation) -> Forgery:
    """The update of training on flipped labels, and loss 1e-9: gets by whoever refuses only a loss of exactly 0."""
    return Forgery(situation.update, TINY)


ATTACK = Attack(
    "loss_tiny", "label_flipping with a reported loss of 1e-9", "this project; FedLAW, Appendix C", poison, forge
)
