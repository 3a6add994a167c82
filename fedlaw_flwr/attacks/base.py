"""What an attack is: poisoned examples before training, or a forged update and loss after it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fedlaw_flwr.tasks.base import Examples, Task

Vector = NDArray[np.float64]


def frozen(array: Vector) -> Vector:
    """The array, read only from now on: what several attackers share, none of them may change."""
    array.flags.writeable = False
    return array


@dataclass(frozen=True)
class Coalition:
    """What the silos of one attack know together: the honest update and loss of each. Read only.

    The rows are in order of the silos: each silo of the attack, or with knowledge = "omniscient" every silo there is.
    Honest is what the silo would have replied in this exchange from its own examples, unpoisoned.

    Attributes:
        updates: (m, d) in units of g; (m, 0) where the server asks for losses alone.
        losses: (m,).
        reviews: The honest review of each, (m, d); (m, 0) where the server asks for none.
    """

    updates: NDArray[np.float64]  # (m, d) in units of g; (m, 0) where the server asks for losses alone
    losses: Vector  # (m,)
    reviews: NDArray[np.float64] = field(default_factory=lambda: frozen(np.empty((0, 0))))

    @cached_property
    def mean(self) -> Vector:
        """mu, coordinate by coordinate, (d,); computed once for all who know the same."""
        return frozen(self.updates.mean(axis=0))

    @cached_property
    def deviation(self) -> Vector:
        """sigma, coordinate by coordinate (1/m, not 1/(m-1)), (d,); computed once too."""
        return frozen(self.updates.std(axis=0))


@dataclass(frozen=True)
class Situation:
    """What a Byzantine silo knows when it must answer. Vectors are flat parameters, updates in units of g."""

    round_number: int  # from 1
    exchange: int
    wants_update: bool  # False where the server asks for the loss alone; the update of a Forgery is then not sent
    lr: float  # alpha: a silo that replies the parameters psi has the update (theta - psi) / alpha
    theta: Vector  # (d,) the model received
    update: Vector  # (d,) g, the pseudo-gradient its training gave, on poisoned examples if the attack has them
    loss: float  # the loss of that training
    silo: int
    members: tuple[int, ...]  # the silos that run this attack, this one included, ascending
    num_silos: int  # n, all silos
    rng: np.random.Generator  # of this silo, round and exchange alone
    shared_rng: np.random.Generator  # starts the same for every member in every exchange of a run
    coalition: Callable[[], Coalition]  # computed when first called
    global_parameter: str  # the settings of these names: what the attacks send
    lie_over: str
    review: Vector | None = None  # (d,) its honest review of the model received, where one is asked for

    def honest_mean(self) -> Vector:
        """What the coalition knows of the honest silos' mean update, (d,).

        With knowledge = "omniscient" it is their mean; else the mean of what the colluders would send honestly.
        """
        coalition = self.coalition()
        if len(coalition.updates) != self.num_silos:
            return coalition.mean
        mean: Vector = self.honest_updates().mean(axis=0)
        return mean

    def honest_updates(self) -> Vector:
        """What the coalition knows of the honest silos' updates, a row each, as `honest_mean` says."""
        return self._honest(self.coalition().updates)

    def honest_reviews(self) -> Vector:
        """The same of their reviews."""
        return self._honest(self.coalition().reviews)

    def _honest(self, rows: Vector) -> Vector:
        return rows if len(rows) != self.num_silos else np.delete(rows, list(self.members), axis=0)

    def honestly(self) -> "Forgery":
        """What its training gave, unchanged."""
        return Forgery(self.update, self.loss)


@dataclass(frozen=True)
class Forgery:
    """What the silo sends instead of its honest reply.

    Attributes:
        update: (d,), in units of g.
        loss: The loss it reports.
        silent: Whether it gives no answer at all.
        review: (d,), the review it sends, where one is asked for; None: it sends none.
    """

    update: Vector
    loss: float
    silent: bool = False
    review: Vector | None = None


@dataclass(frozen=True)
class Attack:
    """One attack: `poison` changes what it trains on, `forge` what it replies; either may be None.

    Attributes:
        name: The name that `attack` allows.
        summary: What the attack does, in one line.
        source: Where the attack is from.
        poison: From the silo's examples, the task and a random stream to the examples it trains on.
        forge: From what the silo knows to what it replies.
        forge_review: From what the silo knows, and the update it sends, to the review it sends where one is asked for.
            None: the review is forged as the update is, by `forge` with reviews in place of updates.
        needs_images: Whether it works on images only.
        same_for_all: Whether all who collude send the same vector: `attack-noise` then tells them apart.
    """

    name: str
    summary: str
    source: str
    poison: Callable[["Examples", "Task", np.random.Generator], "Examples"] | None = None
    forge: Callable[[Situation], Forgery] | None = None
    forge_review: Callable[[Situation, Vector], Vector | None] | None = None
    needs_images: bool = False
    same_for_all: bool = False  # whether all who collude send the same vector: `attack-noise` then tells them apart


def review_forged(attack: Attack, situation: Situation, update: Vector, rng: np.random.Generator) -> Vector | None:
    """The review that the silo sends under this attack, (d,); None: it sends none.

    Args:
        attack: What the silo runs; it has `forge` or `forge_review`.
        situation: What the silo knows, its honest review included.
        update: The update it sends.
        rng: A stream for the review alone.
    """
    assert situation.review is not None
    if attack.forge_review is not None:
        return attack.forge_review(situation, update)
    if attack.forge is None:
        return situation.review

    def reviewers() -> Coalition:
        known = situation.coalition()
        return Coalition(known.reviews, known.losses, known.reviews)

    forgery = attack.forge(replace(situation, update=situation.review, coalition=reviewers, rng=rng))
    return None if forgery.silent else forgery.update


def with_noise(forgery: Forgery, share: float, rng: np.random.Generator) -> Forgery:
    """The forgery with normal noise n of its own added to the update u, scaled to |n| = share |u|.

    Args:
        forgery: What the silo would send.
        share: The norm of the noise as a share of the update's norm.
        rng: Draws the noise.
    """
    noise = rng.standard_normal(forgery.update.size)
    scale = share * np.linalg.norm(forgery.update) / np.linalg.norm(noise)
    return replace(forgery, update=forgery.update + scale * noise)
