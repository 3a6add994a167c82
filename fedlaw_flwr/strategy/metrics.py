"""Which replies a person's own aggregation of metrics is handed: those of silos with weight, with the usual names."""

from collections import Counter
from collections.abc import Sequence

from flwr.app import MetricRecord, RecordDict

from fedlaw_flwr.events.record import EXCLUDED_AT
from fedlaw_flwr.events.types import RoundEnded


def carriers(event: RoundEnded, node_ids: Sequence[int]) -> list[int]:
    """The nodes whose updates went into the step of a round.

    Args:
        event: The round.
        node_ids: The node of each of the event's silos, in order.
    """
    if event.weights is not None:
        return [node for node, weight in zip(node_ids, event.weights, strict=True) if weight > EXCLUDED_AT]
    if event.kept is not None:
        return [node for node, silo in zip(node_ids, event.silos, strict=True) if silo in event.kept]
    return list(node_ids)


def agreeing(records: Sequence[RecordDict]) -> list[RecordDict]:
    """The replies with one MetricRecord whose names and kinds of value are those that most replies have.

    Flower's own aggregation, and most written like it, fail on one reply with another name or a list for a number.
    """
    shapes = [_shape(record) for record in records]
    counted = Counter(shape for shape in shapes if shape is not None)
    if not counted:
        return []
    usual = counted.most_common(1)[0][0]
    return [record for record, shape in zip(records, shapes, strict=True) if shape == usual]


def _shape(record: RecordDict) -> frozenset[tuple[str, int]] | None:
    """The names of a reply's metrics, each with its length, -1 for a number; None unless it has one MetricRecord."""
    found = [one for one in record.values() if isinstance(one, MetricRecord)]
    if len(found) != 1:
        return None
    return frozenset((name, len(value) if isinstance(value, list) else -1) for name, value in found[0].items())
