"""The settings of who attacks, and how: each defined here, once."""

from dataclasses import dataclass

from fedlaw_flwr.attacks import load_attack
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.setting import count_or_fraction, setting

MISLABELLED = "mislabelled"
"""What `drills` says of a silo whose records a rehearsal gave wrong classes: known to be faulty, without an attack."""


def _drills(value: str) -> str:
    for part in value.split(",") if value else []:
        name, _, attack = part.partition(":")
        if not name or not attack:
            raise InputError("pairs of a silo's registered name and its attack are expected: bonn:lie,aachen:ipm")
        if attack != MISLABELLED:
            load_attack(attack)
    return value


@dataclass(kw_only=True)
class AttackOptions:
    """Who attacks (simulation only)"""

    attack: str = setting("none", 'none, an attack of `fedlaw list`, or a mix with shares: "lie:0.2,label_flipping:3"')
    byzantine: int | float = setting(
        0.2,
        "how many silos attack, where attack gives no share",
        allowed="a count (4) or a fraction of the silos (0.2)",
        check=count_or_fraction,
    )
    byzantine_chosen: str = setting(
        "groups",
        "which silos attack: whole groups in random order, as in the paper, or any",
        choices=("groups", "random"),
    )
    knowledge: str = setting(
        "colluders",
        "whose honest updates and losses an attacker sees: those of its own attack; or of all silos (batched engine)",
        choices=("colluders", "omniscient"),
    )
    global_parameter: str = setting(
        "replaced",
        "what the attack of this name and its half of double send: noise alone, or the model plus noise",
        choices=("replaced", "perturbed"),
    )
    lie_over: str = setting(
        "updates",
        "what lie takes mean and deviation of: the updates, mu + z sigma of the g; or the trained parameters",
        choices=("updates", "parameters"),
    )
    poison_loss: str = setting(
        "poisoned",
        "on which examples an attacker that poisons its data takes its loss: poisoned, or as they were",
        choices=("poisoned", "own"),
    )
    attack_noise: float = setting(
        0.0,
        "noise that colluders who would all send the same vector add to it, as a share of its norm",
        least=0,
    )
    drills: str = setting(
        "",
        "in a deployment: registered names of silos that attack on purpose; only the report reads it, and only the "
        "configuration of the silo itself makes it attack",
        allowed="bonn:lie,aachen:ipm",
        check=_drills,
    )
