"""Review max: the updates of support_max, and reviews against the honest ones as far as praise of the honest allows."""

from fedlaw_flwr.attacks.base import Attack, Situation, Vector
from fedlaw_flwr.attacks.support_max import forge, most_harmful


def forge_review(situation: Situation, update: Vector) -> Vector:
    """The review r that all members send: `most_harmful` with the roles of updates and reviews exchanged.

    With e the unit vector of the honest reviews' mean, v that of the honest updates' mean direction without its part
    along e, and R the median norm of the reviews: r = R (-kappa e + sqrt(1 - kappa^2) v). kappa is the largest of 1,
    0.99, ..., -1 for which r supports honest updates, on average, as much as half of the honest reviews do. So the
    members pass for content with the honest silos, and who steps along their reviews goes against the honest ones.
    """
    return most_harmful(situation.honest_reviews(), situation.honest_updates())


ATTACK = Attack(
    "review_max",
    "support_max, with reviews against the honest ones that still praise honest updates",
    "this project; against peer review",
    forge=forge,
    forge_review=forge_review,
    same_for_all=True,
)
