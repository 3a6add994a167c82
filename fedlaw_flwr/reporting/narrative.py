"""What happened in a run, in three sentences with the numbers, losses named first."""

from collections import Counter
from collections.abc import Sequence

from fedlaw_flwr.attacks.options import MISLABELLED
from fedlaw_flwr.core.simplex import Simplex
from fedlaw_flwr.events.record import EXCLUDED_AT, Run
from fedlaw_flwr.reporting.figures import strategy_name

# More names than this in a sentence are no longer read; the table has them all.
_NAMES = 8


def alarm(run: Run) -> str:
    """What must be known before anything else: the run failed or did not end. Empty for a completed run."""
    if run.end is not None and run.end.status == "completed":
        return ""
    done = f"after round {run.rounds[-1].round}" if run.rounds else "before its first round was over"
    if run.end is None:
        return f"The run has not ended, or was killed, {done}. What follows is what there is so far."
    return (
        f"The run failed {done}: {run.end.reason or 'no reason was given'}. What follows is what there was until then."
    )


def story(run: Run) -> list[str]:
    """What happened, in three sentences: the task and the attack, who was wrongly excluded or caught, the accuracy."""
    return [_what(run), _who(run), _accuracy(run)] if run.deciding else [_what(run), _accuracy(run)]


def _what(run: Run) -> str:
    settings, planned = run.settings, run.settings.get("num-rounds")
    done = len(run.rounds)
    rounds = f"{done} round{'s' * (done != 1)}" if done == planned else f"{done} of {planned} rounds"
    return (
        f"{settings.get('num-silos', '?')} silos learned {run.learned} together for {rounds} "
        f"with {strategy_name(settings)}; {_attack(run)}."
    )


def _attack(run: Run) -> str:
    kinds = Counter(run.attackers.values())
    mislabelled = kinds.pop(MISLABELLED, 0)
    said = []
    if kinds:
        said.append(f"{kinds.total()} of them attacked ({', '.join(f'{kind} by {kinds[kind]}' for kind in kinds)})")
    if mislabelled:
        names = [silo for silo in run.silos if run.attackers.get(silo) == MISLABELLED]
        said.append(f"{mislabelled} of them had wrong labels on purpose ({_names(names)})")
    if said:
        return " and ".join(said)
    if not run.is_started and run.settings.get("attack", "none") != "none":
        return f"the attack was to be {run.settings['attack']}"
    return "none of them was made to attack"


def _who(run: Run) -> str:
    """Losses first: attackers that kept weight, honest silos that lost theirs, silos that were not there."""
    assert run.deciding is not None
    if not run.is_judged:
        return f"{strategy_name(run.settings)} gives silos no weights, so nobody is caught or wrongly excluded by name."
    number = run.deciding.round
    silos = [silo for silo in run.silos if silo not in run.nameless]
    attackers = [silo for silo in silos if silo in run.attackers]
    through = [silo for silo in silos if silo in run.got_through]
    wrongly = [silo for silo in silos if silo in run.wrongly_excluded]
    caught = [silo for silo in silos if silo in run.caught]
    absent = [silo for silo in silos if silo in run.absent]
    faulty = "mislabelled silo" if set(run.attackers.values()) == {MISLABELLED} else "attacker"
    lost = "ended with no weight" if run.weights else f"had no part in the step of round {number}"
    parts = []
    if through:
        parts.append(f"{_of(through, attackers, faulty)} got through: {_names(through)}{_share(run, through)}")
    if wrongly:
        honest = [silo for silo in silos if silo not in run.attackers]
        who = _of(wrongly, honest, "honest silo" if attackers else "silo")
        parts.append(f"{who} {lost}: {_names(wrongly)}{_room(run)}")
    if caught:
        parts.append(f"{_of(caught, attackers, faulty)} {lost}{_since(run, caught)}: {_names(caught)}")
    if attackers and not wrongly:
        parts.append("no honest silo was excluded")
    elif not (caught or wrongly):
        parts.append("no silo was excluded")
    if absent:
        parts.append(f"{_of(absent, silos, 'silo')} gave no usable reply in round {number}: {_names(absent)}")
    if run.nameless:
        parts.append(f"nodes that never said which silo they are: {_names(run.nameless)}")
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _of(some: Sequence[str], group: Sequence[str], noun: str) -> str:
    if len(group) == 1:
        return f"the one {noun}"
    return f"all {len(group)} {noun}s" if len(some) == len(group) else f"{len(some)} of {len(group)} {noun}s"


def _names(silos: Sequence[str]) -> str:
    shown = ", ".join(silos[:_NAMES])
    return shown if len(silos) <= _NAMES else f"{shown} and {len(silos) - _NAMES} more"


def _share(run: Run, silos: Sequence[str]) -> str:
    return (
        f" (together {100 * sum(run.weight(silo) or 0.0 for silo in silos):.1f} % of the weight)" if run.weights else ""
    )


def _since(run: Run, silos: Sequence[str]) -> str:
    if not run.weights or run.deciding is None:
        return ""
    began = [run.excluded_since(silo, run.deciding.round) for silo in silos]
    return f" ({'' if min(began) == max(began) else 'the last of them '}since round {max(began)})"


def _room(run: Run) -> str:
    """Whether FedLAW's s forced as many out of weight, whoever they are, or would have let more carry some."""
    assert run.deciding is not None
    settings, learned = run.settings, run.learned_by(run.deciding.round)
    if settings.get("strategy") != "fedlaw" or learned is None or not {"num-silos", "max-byzantine"} <= set(settings):
        return ""
    number, scored = learned.round, len(learned.scored or ())
    rejected = sum(exchange.rejected for exchange in learned.exchanges)
    federation = Simplex.for_federation(
        settings["num-silos"], settings["max-byzantine"], settings.get("s", 0), settings.get("t", 0.0)
    )
    simplex = federation.among(scored, rejected)
    if simplex is None:
        return ""
    room = simplex.s - sum(weight > EXCLUDED_AT for weight in run.weights[number].values())
    if room > 0:
        return f" (s = {federation.s} would have let {room} more carry weight in round {number})"
    return (
        f" (s = {federation.s} let at most {simplex.s} of the {scored} scored in round {number} carry weight, so "
        f"{scored - simplex.s} had to get none, attackers or not)"
    )


def _accuracy(run: Run) -> str:
    curve, where = run.accuracies, run.measured
    if not curve:
        return "No accuracy was measured."
    first, last = min(curve), max(curve)
    auc = run.last_metrics.get("auc")
    area = "" if auc is None else f" The area under the ROC curve was {auc:.3f} at the end."
    if first == last:
        return (
            f"Accuracy {where} was {_percent(curve[last])} after round {last}, the only one it was measured in.{area}"
        )
    best = max(curve, key=lambda number: curve[number])
    verb = "fell" if curve[last] < curve[first] else "rose"
    peak = f", below its best of {_percent(curve[best])} in round {best}" if curve[best] - curve[last] >= 0.01 else ""
    return (
        f"Accuracy {where} {verb} from {_percent(curve[first])} in round {first} "
        f"to {_percent(curve[last])} in round {last}{peak}.{area}"
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
