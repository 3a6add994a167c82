"""Bad-mouthing with flipped labels: trains on flipped labels, and reviews against honest silos."""

from fedlaw_flwr.attacks.bad_mouthing import slander
from fedlaw_flwr.attacks.base import Attack, Situation, Vector
from fedlaw_flwr.attacks.label_flipping import poison


def forge_review(situation: Situation, update: Vector) -> Vector:
    """slander(its own update, mean honest update as far as the coalition knows it)."""
    return slander(update, situation.honest_mean())


ATTACK = Attack(
    "bad_mouthing_flip",
    "label_flipping, and reviews that praise the attackers and speak against honest silos",
    "this project; against peer review",
    poison=poison,
    forge_review=forge_review,
)
