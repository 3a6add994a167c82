"""Which silo holds which examples (q-groups, Dirichlet, iid), and which silos attack."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core import seeding
from fedlaw_flwr.core.errors import InputError

KINDS = ("q-groups", "dirichlet", "iid")
# Beyond it a Dirichlet draw is iid to six digits; far beyond, the sum of its gammas overflows.
_MOST_CONCENTRATED = 1e6
Indices = NDArray[np.intp]


def group_of(silo: int, num_silos: int, num_groups: int) -> int:
    """The group that a silo belongs to: groups are runs of neighbours, their sizes as even as possible.

    Silos 0 .. n-1 lie on a line cut into G = num_groups pieces. The first n mod G pieces are one silo longer.

    Args:
        silo: The silo, 0 .. num_silos - 1.
        num_silos: n, the number of silos.
        num_groups: G, the number of groups, at most n.

    Returns:
        The group, 0 .. num_groups - 1.
    """
    size, longer = divmod(num_silos, num_groups)
    edge = longer * (size + 1)
    return silo // (size + 1) if silo < edge else longer + (silo - edge) // size


def members(group: int, num_silos: int, num_groups: int) -> tuple[int, ...]:
    """The silos of a group, neighbours: the inverse of `group_of`."""
    size, longer = divmod(num_silos, num_groups)
    first = group * size + min(group, longer)
    return tuple(range(first, first + size + (group < longer)))


@dataclass(frozen=True)
class Partition:
    """How examples are dealt to the silos; a pure function of these values and the labels.

    There are three kinds, with n silos and L labels:

    q-groups   an example of label l goes to group l with probability q, to each other group with (1-q)/(L-1), and
               within the group to any of its silos alike (FedLAW, 5.1). There are G = min(n, L) groups; with fewer
               silos than labels, label l belongs to group l mod G and the other groups get (1-q)/(G-1) each.
               With one group everything is in it.
    dirichlet  each label's examples are divided in proportions drawn from Dirichlet(concentration, ...).
    iid        a shuffled deal, sizes as even as possible; q and concentration are not used.

    Attributes:
        kind: "q-groups", "dirichlet" or "iid".
        num_silos: n, the number of silos, at least 1.
        q: The chance that an example goes to the group of its label, in [0, 1]; for q-groups. Default: 0.6.
        concentration: The parameter of the Dirichlet distribution, above 0 and at most 1e6. Default: 0.5.
        seed: The seed of the deal, at least 0. Default: 0.

    Raises:
        ValueError: If one of the values is not allowed.
    """

    kind: str
    num_silos: int
    q: float = 0.6
    concentration: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"partition={self.kind!r}: allowed are {', '.join(KINDS)}")
        if not isinstance(self.num_silos, int) or self.num_silos < 1:
            raise InputError(f"num-silos={self.num_silos}: a whole number from 1 up is needed")
        if not 0 <= self.q <= 1:
            raise InputError(f"q={self.q}: a probability in [0, 1] is needed")
        if not 0 < self.concentration <= _MOST_CONCENTRATED:
            raise InputError(
                f"concentration={self.concentration}: a number above 0 and at most {_MOST_CONCENTRATED:g} is needed"
            )
        if not isinstance(self.seed, int) or self.seed < 0:
            raise InputError(f"seed={self.seed}: a whole number from 0 up is needed")

    def num_groups(self, num_labels: int) -> int:
        """How many groups the silos form: one a label, or one a silo where there are fewer silos."""
        return min(self.num_silos, num_labels)

    def deal(self, labels: NDArray[np.integer], num_labels: int) -> list[Indices]:
        """Deals the examples: every silo gets at least one, and every example goes to exactly one silo.

        A silo that the draw left empty is given one example of the silo that has most, so that every silo can train.
        With few labels Dirichlet draws leave silos out often, and other silos hold one example anyway.

        Args:
            labels: The label of every example, 0 .. num_labels - 1.
            num_labels: L, the number of labels.

        Returns:
            For each silo, the indices into `labels` of its examples, ascending.

        Raises:
            ValueError: If there are fewer examples than silos, or a label is outside 0 .. num_labels - 1.
        """
        if labels.size and not 0 <= labels.min() <= labels.max() < num_labels:
            raise InputError(
                f"labels run from {labels.min()} to {labels.max()}: with {num_labels} labels, allowed are 0 to "
                f"{num_labels - 1}"
            )
        if labels.size < self.num_silos:
            raise InputError(f"num-silos={self.num_silos}: only {labels.size} examples to deal, every silo needs one")
        rng = seeding.generator(self.seed, "partition")
        if self.kind == "q-groups":
            owner = self._by_groups(labels, num_labels, rng)
        elif self.kind == "dirichlet":
            owner = self._by_dirichlet(labels, num_labels, rng)
        else:
            owner = np.empty(labels.size, dtype=np.intp)
            owner[rng.permutation(labels.size)] = np.arange(labels.size) % self.num_silos
        _fill_empty(owner, self.num_silos)
        order = np.argsort(owner, kind="stable")
        counts = np.bincount(owner, minlength=self.num_silos)
        return [np.asarray(part, dtype=np.intp) for part in np.split(order, np.cumsum(counts)[:-1])]

    def honest_share(self, attackers: Collection[int], num_labels: int) -> NDArray[np.float64]:
        """The expected share of each label's examples that silos other than the attackers hold.

        For q-groups it is the sum over groups g of P(l goes to g) h_g, with P as the class says and h_g the share of
        g's silos that are honest. For dirichlet and iid it is h, the share of all silos that are honest.

        Args:
            attackers: The silos that attack.
            num_labels: L, the number of labels.

        Returns:
            The shares, (L,), each in [0, 1].
        """
        honest = np.array([silo not in attackers for silo in range(self.num_silos)], dtype=np.float64)
        groups = self.num_groups(num_labels)
        if self.kind != "q-groups" or groups == 1:
            return np.full(num_labels, honest.mean())
        h = np.array([honest[list(members(g, self.num_silos, groups))].mean() for g in range(groups)])
        home = h[np.arange(num_labels) % groups]
        share: NDArray[np.float64] = self.q * home + (1 - self.q) / (groups - 1) * (h.sum() - home)
        return share

    def _by_groups(self, labels: NDArray[np.integer], num_labels: int, rng: np.random.Generator) -> Indices:
        groups = self.num_groups(num_labels)
        home = labels.astype(np.intp) % groups
        # A draw below q stays at home; the rest go to one of the other groups alike, counted on from home.
        away = rng.random(labels.size) >= self.q
        steps = rng.integers(1, max(2, groups), size=labels.size)
        group = np.where(away, (home + steps) % groups, home)
        owner = np.empty(labels.size, dtype=np.intp)
        for g in range(groups):
            here = np.flatnonzero(group == g)
            owner[here] = rng.choice(members(g, self.num_silos, groups), size=here.size)
        return owner

    def _by_dirichlet(self, labels: NDArray[np.integer], num_labels: int, rng: np.random.Generator) -> Indices:
        owner = np.empty(labels.size, dtype=np.intp)
        for label in range(num_labels):
            here = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet(np.full(self.num_silos, self.concentration))
            cuts = np.round(np.cumsum(shares)[:-1] * here.size).astype(np.intp)
            for silo, part in enumerate(np.split(here, cuts)):
                owner[part] = silo
        return owner


def choose_attackers(num_silos: int, count: int, how: str, seed: int, num_labels: int) -> tuple[int, ...]:
    """Chooses the silos that attack. Of one seed, a smaller choice is the beginning of a larger one.

    Args:
        num_silos: The number of silos.
        count: How many of them attack, 0 .. num_silos.
        how: "groups": whole groups (those of q-groups with `num_labels` labels) in random order until `count` is
            reached, the last one in part (FedLAW, 5.1). "random": any `count` silos.
        seed: The seed of the choice, at least 0.
        num_labels: The number of labels, which decides the groups.

    Returns:
        The silos that attack, in the order they were chosen.

    Raises:
        ValueError: For another `how`, or a count outside 0 .. num_silos.
    """
    if not 0 <= count <= num_silos:
        raise InputError(f"{count} attackers of {num_silos} silos: allowed are 0 to {num_silos}")
    rng = seeding.generator(seed, "attackers")
    if how == "random":
        return tuple(int(silo) for silo in rng.permutation(num_silos)[:count])
    if how != "groups":
        raise InputError(f"byzantine-chosen={how!r}: allowed are groups, random")
    groups = min(num_silos, num_labels)
    order = [silo for group in rng.permutation(groups) for silo in members(int(group), num_silos, groups)]
    return tuple(order[:count])


def labels_without_honest_home(num_silos: int, num_labels: int, attackers: Collection[int]) -> tuple[int, ...]:
    """The labels whose whole home group attacks, so that the share q of their examples is in attackers' hands.

    `Partition.honest_share` says what the honest silos have left of them.

    Args:
        num_silos: The number of silos.
        num_labels: The number of labels.
        attackers: The silos that attack.
    """
    groups = min(num_silos, num_labels)
    lost = {g for g in range(groups) if set(members(g, num_silos, groups)) <= set(attackers)}
    return tuple(label for label in range(num_labels) if label % groups in lost)


def _fill_empty(owner: Indices, num_silos: int) -> None:
    """Gives every silo without an example, in order, the last example of the silo that has most, in place."""
    counts = np.bincount(owner, minlength=num_silos)
    for silo in np.flatnonzero(counts == 0):
        richest = int(np.argmax(counts))
        owner[np.flatnonzero(owner == richest)[-1]] = silo
        counts[richest], counts[silo] = counts[richest] - 1, 1
