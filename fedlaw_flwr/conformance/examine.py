"""Every check of the kit in order, and the examination that makes them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fedlaw_flwr.conformance import constancy, messages, others, reply, training
from fedlaw_flwr.conformance.probe import NoAnswer, Probe
from fedlaw_flwr.findings import Finding, in_order, wrong
from fedlaw_flwr.gate import Rejected


@dataclass(frozen=True)
class Check:
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
    Check(reply.answers),
    Check(reply.addressed, needs=("answers",)),
    Check(reply.records, needs=("answers",)),
    Check(reply.arrays, needs=("records",)),
    Check(reply.loss, needs=("records",)),
    Check(reply.num_examples, needs=("records",)),
    Check(reply.untouched, needs=("answers",)),
    Check(constancy.memory, needs=_USABLE),
    Check(constancy.repeats, needs=("memory",)),
    Check(reply.exchange_2, needs=_USABLE),
    Check(reply.loss_only, needs=("exchange_2", *_STEADY)),
    Check(training.trains, needs=_STEADY),
    Check(training.weights, needs=_STEADY),
    Check(training.step, needs=_TRAINED),
    Check(training.momentum, needs=("step",)),
    Check(training.adaptive, needs=("step",)),
    Check(training.descends, needs=("step", "loss_only")),
    Check(constancy.rounds, needs=_TRAINED),
    Check(messages.unknown_key, needs=_USABLE),
    Check(messages.no_arrays, needs=("answers",)),
    Check(messages.missing_array, needs=("answers",)),
    Check(messages.wrong_shape, needs=("answers",)),
    Check(messages.nan_model, needs=("answers",)),
    Check(messages.exchange_3, needs=_USABLE),
    Check(messages.no_lr, needs=_USABLE),
    Check(others.evaluate),
    Check(others.query),
    Check(others.leaves, needs=("answers",)),
    Check(others.cost, needs=("exchange_2",)),
)
"""A new check is a function from probe to finding and a line here."""


def examine(probe: Probe) -> Iterator[Finding]:
    """One finding for each check that can be made, as it is made, and at the end one that names the others.

    The client conforms to docs/protocol.md where no finding is "wrong". What the client raises is a finding, too.
    """
    return in_order(CHECKS, lambda check: [_made(check, probe)])


def _made(check: Check, probe: Probe) -> Finding:
    try:
        return check.run(probe)
    except (NoAnswer, Rejected) as reason:
        return wrong(f"a message that asks no more than the first gets no usable reply: {reason}")
