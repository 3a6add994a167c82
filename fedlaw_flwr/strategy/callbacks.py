"""What `on_round_end` is handed after each round: the model, the event of the round, the metrics, and how to stop."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord

from fedlaw_flwr.events.types import RoundEnded


@dataclass
class RoundDone:
    """One round that is over.

    Attributes:
        event: The event of the round: who answered, losses, weights, seconds.
        arrays: The model after the round.
        metrics: What `evaluate_fn` returned for it; empty where it was not measured.
        silo_metrics: What the silos report of it, by their weights, or what `evaluate_metrics_aggr_fn` returned.
        train_metrics: The metrics of the round in Flower's result.
        stopped: Why the run ends after this round; None: it goes on.
    """

    event: RoundEnded
    arrays: ArrayRecord
    metrics: Mapping[str, Any] = field(default_factory=dict)
    silo_metrics: Mapping[str, Any] = field(default_factory=dict)
    train_metrics: Mapping[str, Any] = field(default_factory=dict)
    stopped: str | None = None

    @property
    def round(self) -> int:
        """The number of the round, from 1."""
        return self.event.round

    def stop(self, reason: str = "on_round_end asked for it") -> None:
        """Ends the run after this round, as one that is done.

        Args:
            reason: Why, for the log. Default: "on_round_end asked for it".
        """
        self.stopped = reason


OnRoundEnd = Callable[[RoundDone], Any]
"""Called after each round; what it returns is not read."""


def all_of(on_round_end: OnRoundEnd | Sequence[OnRoundEnd] | None) -> tuple[OnRoundEnd, ...]:
    """One callback or several, as several."""
    if on_round_end is None:
        return ()
    return (on_round_end,) if callable(on_round_end) else tuple(on_round_end)
