"""Sleeper: honest until weights are frozen, then hostile with the weight it has earned."""

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation
from fedlaw_flwr.attacks.sign_flip import SCALE

# The paper's weight rounds (I.5, Table 5), and this app's default. With another `weight-rounds` it wakes too early or
# late; a run of 20 rounds or fewer never sees it wake.
SLEEPS = 20


def forge(situation: Situation) -> Forgery:
    """Honest through server round 20; from round 21 on -c g, c = 4, and the honest loss."""
    if situation.round_number <= SLEEPS:
        return situation.honestly()
    return Forgery(-SCALE * situation.update, situation.loss)


ATTACK = Attack(
    "sleeper",
    "honest through round 20, when weights are frozen, then replies -4 g",
    "this project; FedLAW, I.5",
    forge=forge,
)
