"""A run explained on one page: what happened, who got how much weight and why, what it cost; from its events alone."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.events.record import EXCLUDED_AT, Run
from fedlaw_flwr.events.types import ExchangeTotals, NoReply, ReplyRejected, RoundEnded, Warned
from fedlaw_flwr.reporting.explanations import why
from fedlaw_flwr.reporting.figures import strategy_name, weights_svg
from fedlaw_flwr.reporting.narrative import alarm, story
from fedlaw_flwr.reporting.page import Cost, GateRow, Page, SiloRow, render

# More rows than this are no longer read; the rest is in the events.
_GATE_ROWS = 300


def write_report(folder: Path) -> Path:
    """Writes report.html, which needs nothing but itself, into a run folder.

    Returns:
        The path of the report.

    Raises:
        FileNotFoundError: If the folder holds no run.
        ModuleNotFoundError: Without the `report` extra; the text says what to install.
    """
    run = Run.read(folder)
    text = render(page_of(run, weights_svg(run)))
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


def page_of(run: Run, picture: str = "") -> Page:
    """All that the report says of a run."""
    rows = silo_rows(run)
    gate = gate_rows(run.missing)
    return Page(
        title=f"{strategy_name(run.settings)} on {run.settings.get('task', 'an unknown task')}: {run.name}",
        alarm=alarm(run),
        story=story(run),
        warnings=[event.reason for event in run.events if isinstance(event, Warned)],
        picture=picture,
        legend=legend(run),
        attack_known=bool(run.attackers),
        has_weights=bool(run.weights),
        silos=rows,
        notes=notes(run),
        gate=gate[:_GATE_ROWS],
        gate_more=len(gate) - len(gate[:_GATE_ROWS]),
        skipped=skipped_rounds(run.rounds),
        costs=costs(run.rounds),
        settings=settings_rows(run.settings),
    )


# One row per silo


def silo_rows(run: Run) -> list[SiloRow]:
    """A row for every silo, the losses first: attackers that got through, honest silos excluded, silos not there."""
    clipped, raised, losses = _counted(run.rounds)
    missed = Counter((event.silo, type(event)) for event in run.missing)
    without = _rounds_without(run)
    rows = []
    for silo in run.silos:
        outcome, is_loss = _outcome(run, silo)
        rows.append(
            SiloRow(
                name=silo,
                attack=run.attackers.get(silo),
                outcome=outcome,
                is_loss=is_loss,
                weight=run.weight(silo),
                first_without=min(without[silo], default=None),
                rounds_without=len(without[silo]),
                rejected=missed[silo, ReplyRejected],
                silent=missed[silo, NoReply],
                clipped=clipped[silo],
                raised=raised[silo],
                median_loss=statistics.median(losses[silo]) if losses[silo] else None,
                why=why(run, silo),
            )
        )
    return sorted(rows, key=lambda row: not row.is_loss)


def _counted(rounds: Iterable[RoundEnded]) -> tuple[Counter[str], Counter[str], dict[str, list[float]]]:
    """How often each silo was clipped, how often its loss was raised, and every loss it reported of the model."""
    clipped: Counter[str] = Counter()
    raised: Counter[str] = Counter()
    losses: dict[str, list[float]] = defaultdict(list)
    for event in rounds:
        for silo, norm in zip(event.silos, event.norms, strict=True):
            clipped[silo] += event.clip is not None and norm > event.clip
        for silo, loss in zip(event.silos, event.losses, strict=False):  # there are none where silos report none
            losses[silo].append(loss)
        raised.update(event.losses_raised or ())
    return clipped, raised, losses


def _rounds_without(run: Run) -> dict[str, list[int]]:
    """The rounds that gave weights and none to this silo, whatever the cause, from the first it was known in."""
    known: dict[str, int] = {}
    for missing in run.missing:
        known.setdefault(missing.silo, missing.round)
    for event in run.rounds:
        for silo in event.silos:
            known[silo] = min(event.round, known.get(silo, event.round))
    without: dict[str, list[int]] = defaultdict(list)
    for silo, first in known.items():
        for number, weights in run.weights.items():
            if number >= first and weights.get(silo, 0.0) <= EXCLUDED_AT:
                without[silo].append(number)
    return without


def _outcome(run: Run, silo: str) -> tuple[str, bool]:
    """What became of a silo, and whether that is a loss: an attacker that got through or an honest silo excluded."""
    if not run.is_judged:
        return "", False
    if silo in run.caught:
        return "attacker caught", False
    if silo in run.got_through:
        return "attacker got through", True
    if silo in run.absent:
        return "attacker, absent" if silo in run.attackers else "absent", False
    if silo in run.wrongly_excluded and run.attackers:
        return "honest, excluded", True
    return ("excluded", False) if silo in run.excluded else ("", False)


# What a reader must know to read the table


def legend(run: Run) -> str:
    """How the columns of the silos' table are to be read."""
    if run.deciding is None:
        return "No round moved the model, so no silo has been given any weight."
    parts = [f"The outcome is that of round {run.deciding.round}, the last that moved the model."]
    if run.weights:
        parts.append(f"A weight of at most {EXCLUDED_AT:g} counts as none.")
    learned = run.learned_by(run.deciding.round)
    if learned is not None:
        parts.append(
            f"Weights were last learned in round {learned.round}: a silo's score is the weight it came with + its "
            'alignment - beta times its loss on the trial model; "against" gives the median of those that got weight.'
        )
    parts.append("The median loss is of what a silo reported of the model, over all rounds.")
    if run.attackers and run.is_judged:
        parts.append(
            "Shaded: attackers that got through and honest silos excluded. Who attacks is known in experiments only."
        )
    return " ".join(parts)


def notes(run: Run) -> list[str]:
    """What makes rows of the table less certain than they look."""
    found = []
    if run.nameless:
        found.append(
            'A silo without a registered name is a "node" until a reply says which silo it is: a node here never gave '
            "any, or is one of the numbered silos before its first."
        )
    names = [Counter[str](event.silos) for event in run.rounds]
    doubles = sorted({silo for counted in names for silo, count in counted.items() if count > 1})
    found += [f"More than one node called itself {silo} in one round; its row mixes them." for silo in doubles]
    return found


# What was rejected, skipped, and spent


def gate_rows(missing: Iterable[ReplyRejected | NoReply]) -> list[GateRow]:
    """Events of one silo with one reason together, in the order they began."""
    groups: dict[tuple[str, str, int, str], list[int]] = defaultdict(list)
    for event in missing:
        what = "rejected" if isinstance(event, ReplyRejected) else "silent"
        groups[event.silo, what, event.exchange, event.reason].append(event.round)
    return [
        GateRow(spans(rounds), len(rounds), exchange, silo, what, reason)
        for (silo, what, exchange, reason), rounds in groups.items()
    ]


def skipped_rounds(rounds: Iterable[RoundEnded]) -> list[tuple[str, str]]:
    """The rounds that kept the model, by reason."""
    groups: dict[str, list[int]] = defaultdict(list)
    for event in rounds:
        if event.skipped:
            groups[event.reason or "no reason was given"].append(event.round)
    return [(spans(numbers), reason) for reason, numbers in groups.items()]


def spans(numbers: Sequence[int]) -> str:
    """1-3, 7 for [1, 2, 3, 7]."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def costs(rounds: Sequence[RoundEnded]) -> list[Cost]:
    """Bytes and seconds of exchange 1, of exchange 2, of the server between them, and of all."""
    if not rounds:
        return []
    names = ("Exchange 1: the model", "Exchange 2: the trial model")
    kinds = [[event.exchanges[at] for event in rounds if len(event.exchanges) > at] for at in range(len(names))]
    found = [_cost(name, kind) for name, kind in zip(names, kinds, strict=True) if kind]
    seconds = sum(event.seconds for event in rounds)
    everything = _cost("All rounds", [exchange for kind in kinds for exchange in kind])
    own = Cost("The server's own work", len(rounds), seconds - everything.seconds)
    return [*found, own, replace(everything, times=len(rounds), seconds=seconds)]


def _cost(name: str, exchanges: Sequence[ExchangeTotals]) -> Cost:
    return Cost(
        name,
        len(exchanges),
        answered=sum(one.answered for one in exchanges),
        rejected=sum(one.rejected for one in exchanges),
        silent=sum(one.silent for one in exchanges),
        bytes_down=sum(one.bytes_down for one in exchanges),
        bytes_up=sum(one.bytes_up for one in exchanges),
        seconds=sum(one.seconds for one in exchanges),
    )


def settings_rows(settings: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Name, value and, where the value is another, the default (None: it is the default)."""
    defaults = Settings().as_config()
    return [
        (name, _shown(value), f"default {_shown(defaults[name])}" if defaults.get(name, value) != value else None)
        for name, value in settings.items()
    ]


def _shown(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()  # as it is written in a setting
    return "(empty)" if value == "" else value
