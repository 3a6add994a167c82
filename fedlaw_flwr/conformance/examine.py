"""Every check of the kit in order, and the examination that makes them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fedlaw_flwr.config.findings import Finding, in_order, wrong
from fedlaw_flwr.conformance import constancy, messages, reply, robustness, training
from fedlaw_flwr.conformance.probe import NoAnswer, Probe
from fedlaw_flwr.protocol.gate import Rejected


@dataclass(frozen=True)
class ClientCheck:
    """One check, and those that must have found nothing wrong, since it would only repeat what they said."""

    run: Callable[[Probe], Finding]
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its function, as in its finding."""
        return self.run.__name__


_USABLE = ("arrays", "loss")
_STEADY = ("memory", "repeats")
_TRAINED = ("trains", "weights")

CHECKS = (
    ClientCheck(reply.answers),
    ClientCheck(reply.addressed, needs=("answers",)),
    ClientCheck(reply.records, needs=("answers",)),
    ClientCheck(reply.arrays, needs=("records",)),
    ClientCheck(reply.loss, needs=("records",)),
    ClientCheck(reply.num_examples, needs=("records",)),
    ClientCheck(reply.untouched, needs=("answers",)),
    ClientCheck(constancy.memory, needs=_USABLE),
    ClientCheck(constancy.repeats, needs=("memory",)),
    ClientCheck(reply.exchange_2, needs=_USABLE),
    ClientCheck(reply.loss_only, needs=("exchange_2", *_STEADY)),
    ClientCheck(reply.review, needs=_USABLE),
    ClientCheck(training.trains, needs=_STEADY),
    ClientCheck(training.weights, needs=_STEADY),
    ClientCheck(training.step, needs=_TRAINED),
    ClientCheck(training.momentum, needs=("step",)),
    ClientCheck(training.adaptive, needs=("step",)),
    ClientCheck(training.descends, needs=("step", "loss_only")),
    ClientCheck(constancy.rounds, needs=_TRAINED),
    ClientCheck(messages.unknown_key, needs=_USABLE),
    ClientCheck(messages.ledger_head, needs=("unknown_key",)),
    ClientCheck(messages.no_arrays, needs=("answers",)),
    ClientCheck(messages.missing_array, needs=("answers",)),
    ClientCheck(messages.wrong_shape, needs=("answers",)),
    ClientCheck(messages.nan_model, needs=("answers",)),
    ClientCheck(messages.exchange_3, needs=_USABLE),
    ClientCheck(messages.no_lr, needs=_USABLE),
    ClientCheck(robustness.evaluate),
    ClientCheck(robustness.query),
    ClientCheck(robustness.leaves, needs=("answers",)),
    ClientCheck(robustness.cost, needs=("exchange_2",)),
)
"""A new check is a function from probe to finding and a line here."""


def examine(probe: Probe) -> Iterator[Finding]:
    """Makes every check that can be made.

    The client conforms to docs/reference/protocol.md if no finding is "wrong". What the client raises is a finding too.

    Args:
        probe: The client and the model it is asked about.

    Yields:
        One finding for each check, as it is made, and at the end one that names the checks left out.
    """
    return in_order(CHECKS, lambda check: [_made(check, probe)])


def _made(check: ClientCheck, probe: Probe) -> Finding:
    try:
        return check.run(probe)
    except (NoAnswer, Rejected) as reason:
        return wrong(f"a message that asks no more than the first gets no usable reply: {reason}")
