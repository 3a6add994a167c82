"""What a Byzantine silo can do, an attack a file; adding one is a file here and a line in ATTACKS.

Every file defines ATTACK (see `base.Attack`) and is imported when its attack is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fedlaw_flwr.core.errors import InputError

if TYPE_CHECKING:
    from fedlaw_flwr.attacks.base import Attack

ATTACKS = (
    # the paper's
    "label_flipping",
    "backdoor",
    "inverse_gradient",
    "global_parameter",
    "double",
    "lie",
    "mimic_misaligned",
    # beyond it
    "backdoor_target",
    "sign_flip",
    "ipm",
    "min_max",
    "min_sum",
    "score_max",
    "loss_zero",
    "loss_tiny",
    "loss_median",
    "sleeper",
    "dodging",
    "silencing",
    # against peer review
    "bad_mouthing",
    "bad_mouthing_flip",
    "support_max",
    "review_max",
)
"""The names `attack` allows, beside "none"."""


def load_attack(name: str) -> "Attack":
    """The attack of this name.

    Raises:
        ValueError: For a name that is not in ATTACKS, with the names there are.
    """
    if name not in ATTACKS:
        raise InputError(f"attack={name!r}: allowed are none, {', '.join(ATTACKS)}")
    attack: Attack = import_module(f"fedlaw_flwr.attacks.{name}").ATTACK
    return attack
