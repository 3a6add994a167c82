"""Dodging: earns weight honestly, then poisons exchange 1 and never answers exchange 2, where it would be scored."""

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation
from fedlaw_flwr.attacks.sign_flip import SCALE

# Rounds enough for honest silos to be told from others in the paper's runs of 20 weight rounds; ours.
EARNS = 5


def forge(situation: Situation) -> Forgery:
    """Honest in both exchanges through server round 5; then -c g, c = 4, in exchange 1, and silence in exchange 2."""
    if situation.round_number <= EARNS:
        return situation.honestly()
    return Forgery(-SCALE * situation.update, situation.loss, silent=situation.exchange == 2)


ATTACK = Attack(
    "dodging", "honest for 5 rounds, then -4 g in exchange 1 and no answer in exchange 2", "this project", forge=forge
)
