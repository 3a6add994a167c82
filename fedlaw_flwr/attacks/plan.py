"""Which silo runs which attack: `attack="lie"`, or a mix such as `attack="lie:0.2,label_flipping:0.2"`."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedlaw_flwr.attacks import ATTACKS
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.partition import choose_attackers


def attacker_count(byzantine: int | float, num_silos: int) -> int:
    """How many silos attack: a count (int) as it is, a fraction (float) of the silos, rounded to the nearest."""
    return byzantine if isinstance(byzantine, int) else round(byzantine * num_silos)


@dataclass(frozen=True)
class AttackPlan:
    """The Byzantine silos of a simulation and the attack each runs.

    Attributes:
        attacks: From a silo to its attack; whoever is not in it is honest.
    """

    attacks: Mapping[int, str]

    @classmethod
    def read(
        cls, attack: str, byzantine: int | float, num_silos: int, how: str, seed: int, num_labels: int = 10
    ) -> "AttackPlan":
        """The plan of an `attack` setting.

        Colluders of one attack are neighbours in the order in which silos are chosen.

        Args:
            attack: "none", a name (run by `byzantine` of the silos), or name:share pairs. A share is a count
                or a fraction.
            byzantine: How many silos attack where attack gives no share: a count or a fraction.
            num_silos: n, all silos.
            how: "groups" (whole groups, in random order, as the paper picks them, a group a label) or "random".
            seed: Decides which silos are chosen.
            num_labels: How many labels, and so groups, there are. Default: 10.

        Raises:
            ValueError: For an unknown attack, an unreadable share, or attackers that leave no silo honest.
        """
        if attack == "none":
            return cls({})
        shares = []
        for part in attack.split(","):
            name, colon, share = part.strip().partition(":")
            if name not in ATTACKS:
                raise InputError(f"attack={attack!r}: {name!r} is not one of none, {', '.join(ATTACKS)}")
            shares.append((name, attacker_count(_share(attack, share) if colon else byzantine, num_silos)))
        total = sum(count for _, count in shares)
        if total >= num_silos:
            raise InputError(f"attack={attack!r}: {total} attackers of {num_silos} silos leave nobody honest")
        chosen = choose_attackers(num_silos, total, how, seed, num_labels)
        plan, start = {}, 0
        for name, count in shares:
            plan.update(dict.fromkeys(chosen[start : start + count], name))
            start += count
        return cls(plan)

    def attack_of(self, silo: int) -> str | None:
        """The attack this silo runs, None if it is honest."""
        return self.attacks.get(silo)

    def members(self, attack: str) -> tuple[int, ...]:
        """The silos that run this attack: a coalition, where it is one that colludes."""
        return tuple(sorted(silo for silo, name in self.attacks.items() if name == attack))

    @property
    def attackers(self) -> frozenset[int]:
        """Every Byzantine silo."""
        return frozenset(self.attacks)


def _share(attack: str, text: str) -> int | float:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise InputError(f"attack={attack!r}: {text!r} is neither a count (4) nor a fraction (0.2) of silos") from None
