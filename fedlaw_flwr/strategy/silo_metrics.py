"""The event of an evaluation by silos: what each says of the model, put together by the weights they have."""

from collections.abc import Mapping, Sequence

from fedlaw_flwr.core.reported import by_class, together
from fedlaw_flwr.events.types import EvaluatedBySilos, RoundEnded


def weights_in(event: RoundEnded) -> Mapping[str, float] | None:
    """Each silo's weight in a round; None where the round was skipped or its rule gives none by silo."""
    if event.skipped:
        return None
    if event.weights is not None:
        return event.weight_of
    return None if event.kept is None else dict.fromkeys(event.kept, 1.0)


def evaluation(
    server_round: int,
    reported: Mapping[str, Mapping[str, float]],
    classes: Mapping[str, Sequence[float | None]],
    weights: Mapping[str, float] | None,
) -> EvaluatedBySilos:
    """What silos say of the model after a round.

    Args:
        server_round: The round.
        reported: The value that each silo reports, by metric and silo.
        classes: The accuracy of each class at each silo, by silo.
        weights: The weight of each silo in the last round that moved the model; None: all alike.
    """
    found = {name: one for name, by_silo in reported.items() if (one := together(name, by_silo, weights))}
    silos = {silo for by_silo in reported.values() for silo in by_silo} | set(classes)
    return EvaluatedBySilos(
        round=server_round,
        metrics={name: one.shown for name, one in found.items()},
        by_silo=reported,
        means={name: one.mean for name, one in found.items()},
        medians={name: one.median for name, one in found.items()},
        spreads={name: one.spread for name, one in found.items()},
        weights={silo: 1.0 if weights is None else weights.get(silo, 0.0) for silo in sorted(silos)},
        by_class=_rounded(by_class(classes, weights)),
        by_class_of={silo: _rounded(values) or () for silo, values in classes.items()} or None,
    )


def _rounded(values: Sequence[float | None] | None) -> tuple[float | None, ...] | None:
    return None if values is None else tuple(None if value is None else round(value, 4) for value in values)
