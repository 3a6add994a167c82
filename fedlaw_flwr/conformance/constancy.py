"""Checks that a reply depends on its message alone: not on chance, earlier messages, or the number of the round."""

from itertools import pairwise

import numpy as np

from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.conformance.probe import NoAnswer, Probe, Reply
from fedlaw_flwr.protocol.gate import Rejected

# Two replies to one message that differ by more than this part of the longer one are more chance than data.
_LARGE = 0.5
# Sums in another order differ by less; so do no two random orders of batches.
_ROUNDING = 1e-4
# So many more times is a client asked that does not repeat itself, to tell memory from chance.
_ASKED = 6
_LATE_ROUND = 1000
# So many times as many epochs tell the chance of batches from noise that is added.
_LONGER = 16


def repeats(probe: Probe) -> Finding:
    """Whether the same message gets the same reply."""
    again = probe.reply(probe.model)
    if again.same(probe.base):
        return ok("the same message gets the same reply, bit by bit")
    apart = difference(probe.base, again)
    if apart <= _LARGE or _averages_out(probe):
        return note(
            f"the same message gets another reply, {apart:.2g} of its length away; take batches and dropout from a "
            "generator seeded by server-round and exchange, and the run can be repeated"
        )
    return wrong(
        f"the same message gets another reply, {apart:.2g} of its length away: more chance than data; use more "
        "records or epochs, or seed the generator by server-round and exchange"
    )


def memory(probe: Probe) -> Finding:
    """Whether earlier messages change a reply: optimiser state or a model kept from round to round."""
    once, twice = probe.base, probe.reply(probe.model)
    if not once.same(twice):
        if difference(once, twice) > _ROUNDING and _remembers(probe):
            return wrong(
                "the same message gets replies that drift or settle, message by message: something is kept in the "
                "module, momentum perhaps; make model and optimiser anew for each message"
            )
        return note("whether earlier messages change a reply cannot be told: the same message gets another one anyway")
    other = probe.trial.arrays()
    probe.ask(other, {"exchange": 2})
    after = probe.reply(probe.model)
    if not after.same(once):
        return wrong(
            f"a reply changes, by {difference(once, after):.2g} of its length, after a message about another model: "
            "something is kept in the module; make model and optimiser anew for each message"
        )
    context = probe.context()
    begun = probe.reply(probe.model, context=context)
    probe.ask(other, {"exchange": 2}, context)
    ended = probe.reply(probe.model, context=context)
    if not len(context.state):
        return ok("earlier messages change nothing")
    kept = ", ".join(sorted(context.state))
    if begun.same(ended):
        return ok(f"earlier messages change nothing, though {kept} is kept in context.state")
    return note(
        f"what is kept in context.state ({kept}) changes the reply, by {difference(begun, ended):.2g} of its length: "
        "exchange 2 is then not exchange 1 at another model, as the scores presume"
    )


def rounds(probe: Probe) -> Finding:
    """Whether a late round's step is as long as the first one's."""
    late = probe.reply(probe.model, {"server-round": _LATE_ROUND})
    ratio = late.norm / probe.base.norm
    if not 1 / 3 <= ratio <= 3:
        return wrong(
            f"in round {_LATE_ROUND} the reply moves {ratio:.3g} times as far as in round 1, from the same model; "
            "the step is lr as the message names it, whatever the round"
        )
    return ok(f"round {_LATE_ROUND} moves as far as round 1 ({ratio:.3g} times)")


def _averages_out(probe: Probe) -> bool:
    """Whether it is the chance of small batches and dropout, of which more epochs leave less, near the step 0.

    Of E epochs' independent draws 1 / sqrt(E) is left. Noise that is added to a reply grows with it. A client that
    trains no longer where more epochs are asked for cannot be told, and is not blamed.
    """
    longer = {"local-epochs": _LONGER * probe.terms.local_epochs}
    run = {key: _LONGER * value for key, value in probe.epochs.items()}
    pairs = [[probe.gentle(*asked) for _ in range(2)] for asked in (({}, {}), (longer, run))]
    short, long = ([reply for reply in pair if reply is not None] for pair in pairs)
    if len(short) < 2 or len(long) < 2:
        return False
    before, after = difference(*short), difference(*long)
    obeyed = max(reply.norm for reply in long) > 2 * max(reply.norm for reply in short)
    return before <= _LARGE or not obeyed or after < 0.7 * before


def difference(one: Reply, other: Reply) -> float:
    """||delta - delta'|| / max(||delta||, ||delta'||), 0 where both are 0."""
    longest = max(one.norm, other.norm)
    return float(np.linalg.norm(one.delta - other.delta)) / longest if longest else 0.0


def _remembers(probe: Probe) -> bool:
    """Whether the replies to one message follow from one another, rather than being drawn anew each time.

    From one of several independent replies to the next it goes back as often as not, the cosine of successive moves is
    -1/2 on average, and the last move is as long as the first. What remembers goes on (every cosine above 1/2) or comes
    to rest (moves shorter and shorter, or none). Small steps are asked for: large ones make a chaos of both.
    """
    try:
        seen = [reply for reply in (probe.gentle() for _ in range(_ASKED)) if reply is not None]
    except (NoAnswer, Rejected):  # it drifted off
        return True
    if len(seen) < _ASKED:
        return False
    moves = [later.delta - earlier.delta for earlier, later in pairwise(seen)]
    lengths = [float(np.linalg.norm(move)) for move in moves]
    if not any(lengths):  # at rest already, or so small that chance is rounded away
        return probe.reply(probe.model).same(probe.reply(probe.model))
    inner = [float(one @ two) for one, two in pairwise(moves)]
    goes_on = all(product > 0.5 * a * b for product, (a, b) in zip(inner, pairwise(lengths), strict=True))
    shrinks = all(later < max(earlier, 0.05 * lengths[0]) for earlier, later in pairwise(lengths))
    return goes_on or (shrinks and lengths[-1] < 0.3 * lengths[0])
