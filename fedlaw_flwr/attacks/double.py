"""Double: half of the attackers reverse their gradients from round 2 on, the other half sends noise from round 5."""

from fedlaw_flwr.attacks import global_parameter, inverse_gradient
from fedlaw_flwr.attacks.base import Attack, Forgery, Situation

INVERSE_FROM, NOISE_FROM = 2, 5


def inverts(situation: Situation) -> bool:
    """Whether this silo is in the half that reverses: every other member in order, the first included.

    The paper does not say which half; members that are neighbours hold the same labels, so the halves alternate.
    """
    return situation.members.index(situation.silo) % 2 == 0


def forge(situation: Situation) -> Forgery:
    """inverse_gradient from server round 2, or global_parameter from round 5, by the half; honest before.

    FedLAW, I.1, says communication rounds; with two exchanges each, the server's rounds are meant here.
    """
    half, begins = (inverse_gradient, INVERSE_FROM) if inverts(situation) else (global_parameter, NOISE_FROM)
    return half.forge(situation) if situation.round_number >= begins else situation.honestly()


ATTACK = Attack(
    "double",
    "one half does inverse_gradient from round 2, the other global_parameter from 5",
    "FedLAW, I.1",
    forge=forge,
)
