"""Why no round moves the model: the reason that all but a few silos share, and what to do about it."""

import re
from collections import Counter
from collections.abc import Mapping

from fedlaw_flwr.protocol.exchange import OF_THE_CLIENT, Outcome
from fedlaw_flwr.protocol.gate import BALANCED_LOSS
from fedlaw_flwr.protocol.legacy import ARRAYS, CONFIG
from fedlaw_flwr.protocol.loss_key import likeliest
from fedlaw_flwr.protocol.roster import Silo

_NO_LOSS = "reply a metric 'loss', or take what needs none: FedLAW(variant='alignment') or RuleStrategy"
_MENDS: tuple[tuple[str, str], ...] = (
    (r'no metric has "loss" in its name', f"let the clients {_NO_LOSS}"),
    (r"\d+ MetricRecords where one", f"let the clients {_NO_LOSS}"),
    (r"\d+ ArrayRecords where one", "let the clients reply the trained arrays as one ArrayRecord"),
    (
        r"array '.*' (is missing|is not one of the model's)",
        "initial_arrays must hold exactly the arrays that the clients reply: for adapters, the state dict of the "
        "adapters alone",
    ),
    (
        rf".*KeyError.*{re.escape(ARRAYS)}",
        "these are legacy clients (client_fn): "
        f"arrayrecord_key={ARRAYS!r}, configrecord_key={CONFIG!r} speak to them, as with Flower's FedAvg",
    ),
    (r"the loss .* is below the floor", "losses may be negative with loss_floor='none'"),
    (r"array '.*' has dtype", "initial_arrays must have the data types that the clients reply"),
    (
        f"it sends no review|review: |no number under the loss key {BALANCED_LOSS!r}",
        "ClientApp(mods=[review_mod(...)]) of fedlaw_flwr.apps.review_mod makes PyTorch clients review; "
        "FedLAW(variant='fedlaw') needs no reviews",
    ),
)


def shared_reason(outcome: Outcome, byzantine: int, unreviewed: Mapping[Silo, str]) -> tuple[str, int, int] | None:
    """The reason for which so many silos were set aside in exchange 1 that b liars cannot have made it up.

    Not in exchange 2: one liar can make a trial model at which every honest loss is infinite.

    Args:
        outcome: Exchange 1 of a round.
        byzantine: b, the most silos that may be Byzantine.
        unreviewed: Why a silo that was asked for a review has no valid one; empty where none was asked for.

    Returns:
        The reason, how many silos share it, and how many were asked; None where fewer than asked - b share one. A silo
        that was merely silent counts if its ClientApp raised an error.
    """
    reasons = Counter(outcome.rejected.values())
    reasons.update(reason for reason in outcome.silent.values() if reason.startswith(OF_THE_CLIENT))
    reasons.update(unreviewed.values())
    reason, count = max(reasons.items(), key=lambda item: item[1], default=("", 0))
    return (reason, count, outcome.asked) if count > max(0, outcome.asked - byzantine - 1) else None


def mend(reason: str, loss_key: str | None) -> str:
    """What to do about a reason for which replies are rejected, after a semicolon; empty where nothing is known."""
    if loss_key is not None and reason.startswith(f"no number under the loss key {loss_key!r}"):
        names = re.findall(r"'([^']*)'", reason.partition("(metrics: ")[2])
        sent = likeliest(names, loss_key)
        if sent is None:
            return f"; let the clients {_NO_LOSS}"
        return f"; the silos send {sent!r}: loss_key={sent!r} reads it, and so does FedLAW without a loss_key"
    return next((f"; {what}" for pattern, what in _MENDS if re.match(pattern, reason)), "")
