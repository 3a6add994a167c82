"""Legacy clients (`client_fn`, NumPyClient): the names of Flower's compatibility layer, and a reply in today's form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, MessageType, MetricRecord, RecordDict

ARRAYS, CONFIG = "fitins.parameters", "fitins.config"
"""Under which a legacy client finds the model and the config of a `train` message."""


@dataclass(frozen=True)
class RecordNames:
    """Under which names a message has the model and the config.

    Attributes:
        arrays: The name of the ArrayRecord. Default: "arrays".
        config: The name of the ConfigRecord. Default: "config".
    """

    arrays: str = "arrays"
    config: str = "config"

    def content(self, message_type: str, arrays: ArrayRecord, config: ConfigRecord) -> RecordDict:
        """The content of a message; a legacy client finds the model to evaluate under `evaluateins`."""
        names = (self.arrays, self.config)
        if message_type == MessageType.EVALUATE:
            names = tuple(name.replace("fitins.", "evaluateins.") for name in names)  # type: ignore[assignment]
        return RecordDict({names[0]: arrays, names[1]: config})


TODAYS = RecordNames()
"""The names that a ClientApp of today reads."""


def standard(content: RecordDict, keys: Sequence[str]) -> RecordDict:
    """A reply in today's form: that of a legacy client made anew, any other as it is.

    A legacy client's arrays have no names: they are taken in the order of the model's. Its metrics are the numbers
    among those that `fit` or `evaluate` returned, beside `num-examples` and, after `evaluate`, the `loss`.

    Args:
        content: The reply.
        keys: The names of the model's arrays, in order.
    """
    if "fitres.status" not in content and "evaluateres.status" not in content:
        return content
    kind = "fitres" if "fitres.status" in content else "evaluateres"
    told = content.get(f"{kind}.metrics")
    numbers: dict[str, Any] = {
        key: value
        for key, value in (told.items() if isinstance(told, ConfigRecord) else ())
        if isinstance(value, int | float)
    }
    for name, key in (("num_examples", "num-examples"), ("loss", "loss")):
        record = content.get(f"{kind}.{name}")
        if isinstance(record, MetricRecord) and isinstance(record.get(name), int | float):
            numbers[key] = record[name]
    found = RecordDict({"metrics": MetricRecord(numbers)})
    arrays = content.get("fitres.parameters")
    if isinstance(arrays, ArrayRecord):
        named = dict(zip(keys, arrays.values(), strict=False)) if len(arrays) == len(keys) else dict(arrays)
        found["arrays"] = ArrayRecord(named)
    return found
