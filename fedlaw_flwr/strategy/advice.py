"""Which variant of FedLAW our tables speak for, by the size of a federation: one sentence, or none."""

_FEW_SILOS = 30
_HIGH_SHARE = 0.3


def on_variant(variant: str, n: int, b: int) -> str | None:
    """What to consider before a run with published FedLAW in a small federation with a high bound.

    Measured on digits with 20 silos, 8 of them Byzantine (docs/research/peer-review.md); the limits of 30 silos and of
    30 % are ours.

    Args:
        variant: The way in which weights are learned.
        n: The number of silos.
        b: The most that may be Byzantine.

    Returns:
        A sentence; None where the tables say nothing against the choice.
    """
    if variant != "fedlaw" or n > _FEW_SILOS or b < _HIGH_SHARE * n:
        return None
    return (
        f"with {n} silos and a bound of {b}, peer review kept more accuracy in our tables than FedLAW as published "
        "(docs/research/peer-review.md); variant=review selects it, and silos must send reviews"
    )
