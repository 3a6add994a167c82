"""Loss forging, zero: a poisoned update (flipped labels) and a loss of 0, FedLAW's own weak spot taken at its word."""

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation
from fedlaw_flwr.attacks.label_flipping import poison


def forge(situation: Situation) -> Forgery:
    """The update of training on flipped labels, and loss 0: the least the server accepts (FedLAW, Assumption E)."""
    return Forgery(situation.update, 0.0)


ATTACK = Attack(
    "loss_zero", "label_flipping with a reported loss of 0", "this project; FedLAW, Appendix C", poison, forge
)
