"""FedLAW with weights frozen once the same silos carried weight for 3 rounds. Studied here; not a default."""

from collections.abc import Hashable, Sequence
from dataclasses import replace

from fedlaw_flwr.core.blocks import Vector
from fedlaw_flwr.core.standing import Sample, Standing
from fedlaw_flwr.core.state import State
from fedlaw_flwr.learners import fedlaw
from fedlaw_flwr.learners.interface import Learner, Pieces
from fedlaw_flwr.learners.options import WeightOptions

ROUNDS = 3
"""For how many weight rounds in a row the silos with weight must stay the same, the value that was studied."""


class StableStanding(Standing):
    """Weights are learned until the same silos carried weight in ROUNDS + 1 weight rounds, however long that takes."""

    supports: tuple[frozenset[Hashable], ...] = ()

    def learns(self, round_number: int) -> bool:
        """Whether weights are learned in this round."""
        return len(self.supports) <= ROUNDS or len(set(self.supports[-ROUNDS - 1 :])) > 1

    def learn(self, silos: Sequence[Hashable], w: Vector, round_number: int, sample: Sample | None = None) -> None:
        """Takes the new weights (m,) of the silos scored."""
        super().learn(silos, w, round_number, sample)
        carriers = frozenset(silo for silo, weight in zip(silos, w, strict=True) if weight > 0)
        self.supports = (*self.supports, carriers)

    def state(self) -> State:
        """See `core.state`."""
        supports = [sorted(carriers, key=str) for carriers in self.supports]
        return State({**super().state().values, "supports": supports})

    def restore(self, state: State) -> None:
        """See `core.state`."""
        super().restore(state)
        self.supports = tuple(frozenset(carriers) for carriers in state.values["supports"])


def build(options: WeightOptions) -> Pieces:
    """FedLAW's pieces with another end of the weight rounds."""
    return replace(fedlaw.build(options), standing=StableStanding(options.schedule()))


LEARNER = Learner(
    "FedLAW, frozen once the same silos carried weight for 3 rounds",
    "ours, docs/research/defences.md",
    build,
    samples=False,
)
