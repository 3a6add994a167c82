"""Under which name the silos report their loss, where nobody says it: found in the replies of the first exchange."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from flwr.app import MetricRecord, RecordDict

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.setting import did_you_mean
from fedlaw_flwr.protocol import gate
from fedlaw_flwr.protocol.exchange import Outcome
from fedlaw_flwr.protocol.gate import Rejected
from fedlaw_flwr.protocol.roster import Silo

KNOWN = ("loss", "train_loss", "train-loss")
"""Names that mean the loss of training wherever they stand, the first of them that is sent."""

_WORD = "loss"
_MOST, _LONGEST = 64, 80  # metrics of one reply that are looked at, and characters of a name
_SHOWN = 6

Metrics = Mapping[str, float | None]
"""The metrics of one reply: the number under each name, None for a list."""


@dataclass
class LossFinder:
    """Finds the loss among the metrics that all honest silos send, in one exchange.

    Of m usable replies, at most b' are hostile. A name counts if at least m - b' silos send a number under it: every
    honest silo's loss counts, and b' silos alone can make no name count. The loss is the first of `KNOWN` that counts,
    else the only name that counts with "loss" in it.

    Attributes:
        byzantine: b, the most silos that may be Byzantine.
        floor: The least loss that passes the gate; None: any.
        needed: Whether a silo without a loss is rejected. Default: yes.
        key: The name found; None until it is.
    """

    byzantine: int
    floor: float | None
    needed: bool = True
    key: str | None = field(default=None, init=False)
    _metrics: dict[Silo, Metrics] = field(default_factory=dict, init=False)

    def look(self, silo: Silo, content: RecordDict) -> None:
        """Notes the metrics of a reply.

        Raises:
            Rejected: If a loss is needed and there is no MetricRecord, or several.
        """
        try:
            self._metrics[silo] = metrics_of(content)
        except Rejected:
            if self.needed:
                raise
            self._metrics[silo] = {}

    def settle(self, outcome: Outcome) -> dict[Silo, float]:
        """Finds the name, and rejects the replies that have no usable loss under it.

        Args:
            outcome: What the exchange brought; replies without a usable loss become rejected.

        Returns:
            The loss of each silo that answered; nothing where too few answered to tell, or where no loss is needed and
            none is sent.

        Raises:
            InputError: If several names may be the loss.
        """
        replies = [self._metrics[silo] for silo in outcome.answered]
        hostile = max(0, self.byzantine - len(outcome.rejected))
        enough = len(replies) - hostile
        if enough <= hostile:
            return {}
        found = candidates(replies, enough)
        if len(found) > 1:
            raise InputError(
                f"the silos send {len(found)} metrics that may be the loss, {_listed(found)}: name the one that FedLAW "
                f"is to read, for instance loss_key={found[0]!r}; every silo must mean the same by it"
            )
        if found:
            self.key = found[0]
        elif not self.needed:
            return {}
        return self._read(outcome, _common(replies, enough))

    def _read(self, outcome: Outcome, common: Sequence[str]) -> dict[Silo, float]:
        losses: dict[Silo, float] = {}
        for silo in outcome.answered:
            try:
                if self.key is None:
                    raise Rejected(f'no metric has "loss" in its name (metrics: {_listed(common) or "none"})')
                losses[silo] = gate.loss_in(self._metrics[silo], self.key, self.floor)
            except Rejected as reason:
                outcome.rejected[silo] = str(reason)
        outcome.answered = list(losses)
        return losses


def metrics_of(content: RecordDict) -> Metrics:
    """The metrics of a reply, those with "loss" in their name first, 64 at most; names are cut to 80 characters.

    The class-balanced loss of a review is not among them.

    Raises:
        Rejected: If there is no MetricRecord, or several.
    """
    record = gate.only(content, MetricRecord)
    names = sorted(record.keys() - {gate.BALANCED_LOSS}, key=lambda name: (_WORD not in name.lower(), name))
    return {name[:_LONGEST]: _number(record[name]) for name in islice(names, _MOST)}


def candidates(replies: Sequence[Metrics], enough: int) -> list[str]:
    """The names that may be the loss: one of `KNOWN`, or all with "loss" in them, sent by at least so many silos."""
    common = _common(replies, enough)
    known = [name for name in KNOWN if name in common]
    return known[:1] or [name for name in common if _WORD in name.lower()]


def likeliest(names: Sequence[str], key: str) -> str | None:
    """Of these names the one that a person who wrote `key` most likely meant; None where none is near."""
    losses = [name for name in names if _WORD in name.lower()]
    known = [name for name in KNOWN if name in losses]
    near = [name for name in losses if did_you_mean(key, [name])]
    return next(iter(known or near or losses), None)


def _common(replies: Sequence[Metrics], enough: int) -> list[str]:
    counted = Counter(name for metrics in replies for name, value in metrics.items() if value is not None)
    return sorted(name for name, count in counted.items() if count >= enough)


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
