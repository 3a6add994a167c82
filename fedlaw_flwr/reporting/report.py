"""A run explained on one page: what happened, who got how much weight and why, what it cost; from its events alone."""

import re
import shlex
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.events.folder import EVENTS
from fedlaw_flwr.events.record import EXCLUDED_AT, OWN_TASK, Run, by_number, measured
from fedlaw_flwr.events.types import (
    EvaluatedBySilos,
    Joined,
    NoReply,
    NoReview,
    Pardoned,
    Removed,
    ReplyRejected,
    RoundEnded,
    RunResumed,
    SitsOut,
    Warned,
)
from fedlaw_flwr.events.verdict import verdict
from fedlaw_flwr.reporting.chart_data import chart_data, short
from fedlaw_flwr.reporting.costs import cost_story, costs, one_exchange
from fedlaw_flwr.reporting.explanations import is_decaying, is_reviewed, why
from fedlaw_flwr.reporting.figures import run_labels, strategy_name
from fedlaw_flwr.reporting.in_short import changes, in_short, parts
from fedlaw_flwr.reporting.narrative import alarm, story
from fedlaw_flwr.reporting.page import (
    Detection,
    GateRow,
    Group,
    Page,
    Reason,
    Repeat,
    SideBySide,
    SiloRow,
    Tile,
    readable_bytes,
    render,
)
from fedlaw_flwr.reporting.terminal import verdict_rows

# More rows than this are no longer read; the rest is in the events.
_GATE_ROWS = 300
# More silos that all counted than this are folded: who was left out is what a reader looks for.
_CHIPS = 40
_ROW = ("name", "anchor", "attack", "outcome", "mood", "short", "why", "changes")
# Silos with less than this share of an equal weight are shown beside those without any.
_LITTLE = 0.5
_LIVE_SECONDS = 5
"""How often a browser loads the page of a run that goes on."""


def write_report(folder: Path, *others: Path, to: Path | None = None) -> Path:
    """Writes the report of a run: one HTML file that needs nothing but itself.

    Args:
        folder: The run's folder.
        others: Folders of runs to lay beside it.
        to: Where the page goes; report.html in the run folder, or comparison.html where there are others.

    Returns:
        The path of the report.

    Raises:
        FileNotFoundError: If a folder holds no run.
        ModuleNotFoundError: Without the `report` extra; the text says what to install.
    """
    text = report_text(folder, *others)
    path = to or folder / ("comparison.html" if others else "report.html")
    path.write_text(text, encoding="utf-8")
    return path


def report_text(folder: Path, *others: Path, live: bool = False) -> str:
    """The report as HTML; `live` lets a browser load it again while the run goes on."""
    run, beside = Run.read(folder), [Run.read(other) for other in others]
    page = page_of(run, beside)
    labels = page.runs.labels[1:] if page.runs else []
    data = page_data(run, page, dict(zip(labels, beside, strict=True)))
    refresh = _LIVE_SECONDS if live and run.end is None else None
    return render(page, data, (folder / EVENTS).read_bytes(), refresh)


def page_of(run: Run, others: Sequence[Run] = ()) -> Page:
    """All that the report says of a run, and of others beside it."""
    rows = silo_rows(run)
    gate = gate_rows([*run.missing, *run.unreviewed])
    classes, class_titles, classes_note = by_class(run)
    served, served_titles, served_note = left_out(run)
    found = verdict(run)
    return Page(
        title=title(run),
        run_id=run.name,
        alarm=alarm(run),
        story=story(run),
        warnings=[
            event.reason if isinstance(event, Warned) else event.sentence
            for event in run.events
            if isinstance(event, Warned | RunResumed | SitsOut | Pardoned | Removed | Joined)
        ],
        tiles=tiles(run),
        groups=groups(rows),
        measured=run.measured,
        legend=legend(run),
        attack_known=bool(run.attackers),
        has_weights=bool(run.weights),
        has_judged=run.is_judged,
        excluded_at=EXCLUDED_AT,
        detection=Detection(run.deciding.round, list(found.detection.values()))
        if run.deciding and run.attackers and found.detection
        else None,
        silos=rows,
        reasons=reasons(run, rows),
        review=next((event.round for event in reversed(run.rounds) if event.support), None),
        notes=notes(run),
        served=served,
        served_titles=served_titles,
        served_note=served_note,
        classes=classes,
        class_titles=class_titles,
        classes_note=classes_note,
        gate=gate[:_GATE_ROWS],
        gate_more=len(gate) - len(gate[:_GATE_ROWS]),
        skipped=skipped_rounds(run.rounds),
        costs=costs(run.rounds),
        cost_story=cost_story(run),
        settings=settings_rows(run.settings),
        repeat=repeat(run),
        versions=f"fedlaw-flwr {version('fedlaw-flwr')} (flwr {version('flwr')}, Python {sys.version.split()[0]})",
        runs=side_by_side([run, *others]) if others else None,
    )


def page_data(run: Run, page: Page, others: Mapping[str, Run]) -> dict[str, Any]:
    """What the page's scripts read: the numbers of the charts, and the rows of the silos."""
    by_name = sorted((row.name for row in page.silos), key=by_number)
    place = {name: at for at, name in enumerate(by_name)}
    label = page.runs.labels[0] if page.runs else strategy_name(run.settings)
    rows = [
        {name: getattr(row, name) for name in _ROW} | {"weight": short(row.weight), "place": place[row.name]}
        for row in page.silos
    ]
    return {
        "file": re.sub(r"[^A-Za-z0-9._-]+", "-", run.name) or "run",
        "rows": rows,
        "decays": is_decaying(run),
        "bsum": run.settings.get("variant") == "bsum",
        **chart_data(run, [row.name for row in page.silos], label, others),
    }


def title(run: Run) -> str:
    """What the run was, in words: the strategy, the task, how many silos, how many known to attack."""
    learned = run.learned.removesuffix(", from data of their own,")
    if learned == "?":
        learned = "an unknown task"
    silos = run.settings.get("num-silos", len(run.silos))
    attacked = len(run.attackers)
    faulty = f", {attacked} of them attacker{'s' * (attacked != 1)}" if attacked else ""
    on = "" if learned.startswith("from ") else "on "
    return f"{strategy_name(run.settings)} {on}{learned}: {silos} silos{faulty}"


# The figures at the top


def tiles(run: Run) -> list[Tile]:
    """Accuracy, who was excluded, who should not have been, and the cost."""
    return [_accuracy_tile(run), *_exclusion_tiles(run), _cost_tile(run)]


def _accuracy_tile(run: Run) -> Tile:
    found, curve = verdict(run), run.accuracies
    if found.accuracy is None:
        return Tile("Accuracy", "not measured", "")
    under = f"{run.measured}; at first {100 * curve[min(curve)]:.1f} %" if len(curve) > 1 else run.measured
    if found.attack_success is not None:
        under = f"the backdoor's success: {100 * found.attack_success:.1f} %"
    return Tile("Accuracy of the last model", f"{100 * found.accuracy:.1f} %", under)


def _exclusion_tiles(run: Run) -> list[Tile]:
    found = verdict(run)
    if run.deciding is None or not run.is_judged:
        name = strategy_name(run.settings)
        what = "no round moved the model" if run.deciding is None else f"{name} gives silos no weights"
        absent = len(run.absent)
        return [Tile("Silos excluded", "none", what), Tile("Silos absent at the end", str(absent), "")]
    number = run.deciding.round
    if found.caught is not None and found.wrongly_excluded is not None and run.attackers:
        weight = found.weight_on_attackers
        share = f"they hold {100 * weight:.1f} % of the weight" if weight is not None else f"in round {number}"
        return [
            Tile(
                "Attackers caught",
                f"{found.caught} of {found.attackers}",
                share,
                "good" if found.caught == found.attackers else "bad",
            ),
            Tile(
                "Honest silos excluded",
                f"{found.wrongly_excluded} of {found.honest}",
                f"in round {number}",
                "bad" if found.wrongly_excluded else "good",
            ),
        ]
    known = [silo for silo in run.silos if silo not in run.nameless]
    without = len([silo for silo in known if silo in run.excluded])
    what = "Silos without weight" if run.weights else "Silos left out"
    return [
        Tile(what, f"{without} of {len(known)}", f"in round {number}"),
        Tile("Silos absent at the end", f"{len(run.absent)} of {len(known)}", f"in round {number}"),
    ]


def _cost_tile(run: Run) -> Tile:
    found = verdict(run)
    total = found.bytes_down + found.bytes_up
    single = one_exchange(run)
    under = "sent and received by all silos, and the time in rounds"
    if single is not None and single[0]:
        under = f"{total / single[0]:.2f} times the bytes of one-exchange averaging"
    return Tile("Cost", f"{readable_bytes(total)}, {_long(found.seconds)}" if run.rounds else "none", under)


def _long(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


# The silos by verdict


_GROUPS = (
    ("attacker got through", "Attackers that got through"),
    ("honest, excluded", "Honest silos that were excluded"),
    ("attacker caught", "Attackers excluded"),
    ("excluded", "Excluded"),
    ("attacker, absent", "Attackers absent at the end"),
    ("absent", "Absent at the end"),
    ("", "Counted"),
)


def groups(rows: Sequence[SiloRow]) -> list[Group]:
    """The silos of each verdict, those that a reader looks for first."""
    found = []
    for outcome, name in _GROUPS:
        silos = [row for row in rows if row.outcome == outcome]
        if silos:
            found.append(Group(name, silos, folded=len(silos) > _CHIPS))
    return found


def reasons(run: Run, rows: Sequence[SiloRow]) -> list[Reason]:
    """What is said of the silos that do not count, each sentence once."""
    said: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.mood != "in" and row.name not in run.got_through:
            said[row.short].append(row.name)
    return [Reason(sentence, names) for sentence, names in said.items()]


def left_out(run: Run) -> tuple[list[tuple[str, list[str]]], list[str], str]:
    """How the last model does at the silos that count for little or nothing, beside those that counted.

    Returns:
        A row for each silo that is not known to attack and was excluded, or has less than half of an equal share of the
        weight, the least weight first; the titles of its values; how to read them.
    """
    deciding = run.deciding
    if deciding is None:
        return [], [], ""
    least = _LITTLE / max(1, len(deciding.silos))
    little = {silo for silo, weight in deciding.weight_of.items() if weight < least}
    names = [silo for silo in run.silos if silo in run.excluded | little and silo not in run.attackers]
    if not names:
        return [], [], ""
    names.sort(key=lambda silo: run.weight(silo) or 0.0)
    last = {
        silo: (event.round, loss)
        for event in run.rounds
        if event.losses  # some silos report none
        for silo, loss in zip(event.silos, event.losses, strict=True)
    }
    counted = [last[silo][1] for silo in deciding.silos if silo not in run.excluded and silo in last]
    by_silo = next((event for event in reversed(run.events) if isinstance(event, EvaluatedBySilos)), None)
    shown = [name for name in ("accuracy", "auc", "loss") if by_silo and name in by_silo.by_silo]
    all_of = "Median {} of all" if by_silo is None or by_silo.weights is None else "{} of all, by weight"
    titles = ["Weight"] if deciding.weights else []
    titles += ["Loss it reported last", "Median of those that counted"]
    for name in shown:
        titles += [f"{name.capitalize()} on its own examples", _first_upper(all_of.format(name))]
    worst = dict(by_silo.by_class_of or {}) if by_silo else {}
    titles += ["Worst class on its own examples"] if worst else []
    rows = []
    for silo in names:
        values = [f"{run.weight(silo) or 0.0:.4f}"] if deciding.weights else []
        values += [
            f"{last[silo][1]:.3f}" if silo in last else "",
            f"{statistics.median(counted):.3f}" if counted else "",
        ]
        for name in shown:
            assert by_silo is not None
            own = by_silo.by_silo[name].get(silo)
            values += ["" if own is None else f"{own:.3f}", f"{by_silo.metrics.get(name, float('nan')):.3f}"]
        values += [_worst(worst.get(silo, ()))] if worst else []
        rows.append((silo, values))
    note = (
        "A silo without weight still receives the model. Its loss on its own data says how well the model fits it. A "
        "loss far above the median says that the silo pays for its exclusion: it may be an honest silo whose data are "
        "unlike the others'. Silos with less than half of an equal share of the weight are listed too. What a silo "
        "says of itself is a claim."
    )
    return rows, titles, note


def by_class(run: Run) -> tuple[list[tuple[str, list[str]]], list[str], str]:
    """The accuracy of the last model measured, class by class, the least first.

    Returns:
        A row for each class; the titles of its values; how to read them.
    """
    event = next((event for event in reversed(run.evaluations) if event.by_class), None)
    if event is None or event.by_class is None:
        return [], [], ""
    known = [(label, value) for label, value in enumerate(event.by_class)]
    known.sort(key=lambda pair: (pair[1] is None, pair[1] or 0.0))
    own = event.by_class_of if isinstance(event, EvaluatedBySilos) else None
    titles = [f"Accuracy {measured(event)}"] + (["Silos left out that hold it", "Their median"] if own else [])
    rows = []
    for label, value in known:
        values = ["no examples" if value is None else f"{value:.3f}"]
        if own:
            held = [told[label] for silo, told in own.items() if silo in run.excluded and label < len(told)]
            theirs = [one for one in held if one is not None]
            values += [str(len(theirs)), f"{statistics.median(theirs):.3f}" if theirs else ""]
        rows.append((f"class {label}", values))
    note = (
        f"After round {event.round}. Classes are numbered as the task numbers them. A class far below the others may "
        "be one that only silos without weight hold: the model does not learn it."
    )
    return rows, titles, note


def _worst(values: Sequence[float | None]) -> str:
    """The class with the least accuracy."""
    known = [(value, label) for label, value in enumerate(values) if value is not None]
    return f"class {min(known)[1]}: {min(known)[0]:.3f}" if known else ""


def _first_upper(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


# Several runs


def side_by_side(runs: Sequence[Run]) -> SideBySide:
    """The figures of several runs in columns, and the settings in which they differ."""
    labels = run_labels([run.settings for run in runs])
    names = list(dict.fromkeys(name for run in runs for name in run.settings if name != "run-dir"))
    missing = object()
    differ = [
        (name, [_shown(run.settings.get(name, "not set")) for run in runs])
        for name in names
        if len({repr(run.settings.get(name, missing)) for run in runs}) > 1
    ]
    return SideBySide(labels, verdict_rows([verdict(run) for run in runs]), differ)


# One row per silo


def silo_rows(run: Run) -> list[SiloRow]:
    """A row for every silo, the losses first: attackers that got through, honest silos excluded, silos not there."""
    clipped, raised, losses = _counted(run.rounds)
    missed = Counter((event.silo, type(event)) for event in run.missing)
    without, words, anchors = _rounds_without(run), parts(run), _anchors(run.silos)
    rows = []
    for silo in run.silos:
        outcome, is_loss = _outcome(run, silo)
        mood, sign = _mood(run, silo, is_loss)
        rows.append(
            SiloRow(
                name=silo,
                anchor=anchors[silo],
                attack=run.attackers.get(silo),
                outcome=outcome,
                mood=mood,
                sign=sign,
                is_loss=is_loss,
                weight=run.weight(silo),
                first_without=min(without[silo], default=None),
                rounds_without=len(without[silo]),
                rejected=missed[silo, ReplyRejected],
                silent=missed[silo, NoReply],
                clipped=clipped[silo],
                raised=raised[silo],
                median_loss=statistics.median(losses[silo]) if losses[silo] else None,
                short=in_short(run, silo, words[silo]),
                why=why(run, silo),
                changes=changes(run, silo, words[silo]),
            )
        )
    return sorted(rows, key=lambda row: ("bad", "out", "absent", "in").index(row.mood))


def _mood(run: Run, silo: str, is_loss: bool) -> tuple[str, str]:
    """What became of a silo as a colour's name and a sign."""
    if is_loss:
        return "bad", "!"
    if silo in run.excluded:
        return "out", "\N{MULTIPLICATION X}"
    return ("absent", "\N{WHITE CIRCLE}") if silo in run.absent else ("in", "\N{CHECK MARK}")


def _anchors(silos: Sequence[str]) -> dict[str, str]:
    """A link's ending for each silo, all different: silo-7 for "silo 7", silo-bonn for "bonn"."""
    found: dict[str, str] = {}
    for silo in silos:
        stem = re.sub(r"[^a-z0-9]+", "-", silo.lower()).strip("-")
        stem = stem if stem.startswith("silo-") else f"silo-{stem}"
        anchor, number = stem, 1
        while anchor in found.values():
            number += 1
            anchor = f"{stem}_{number}"
        found[silo] = anchor
    return found


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
    if learned is not None and is_reviewed(learned):
        parts.append(
            f"Weights were last learned in round {learned.round}, by peer review: the silos that vouch most for each "
            "other share the weight. Support says by how much an update would lower the loss of another silo, as a "
            "cosine."
        )
    elif learned is not None:
        parts.append(
            f"Weights were last learned in round {learned.round}: a silo's score is the weight it came with + its "
            'alignment - beta times its loss on the trial model; "against" gives the median of those that got weight.'
        )
    parts.append("The median loss is of what a silo reported of the model, over all rounds.")
    if run.attackers and run.is_judged:
        parts.append(
            "Attackers that got through and honest silos excluded are marked with !. Who attacks is known in "
            "experiments only."
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


# What was rejected and skipped


def gate_rows(missing: Iterable[ReplyRejected | NoReply | NoReview]) -> list[GateRow]:
    """Events of one silo with one reason together, in the order they began; reviews that are missing come last."""
    groups: dict[tuple[str, str, int, str], list[int]] = defaultdict(list)
    for event in missing:
        if isinstance(event, NoReview):
            groups[event.silo, "no review", 1, event.reason].append(event.round)
            continue
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


def settings_rows(settings: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Name, value and, where the value is another, the default (None: it is the default)."""
    defaults = Settings().as_config()
    return [
        (name, _shown(value), _shown(defaults[name]) if defaults.get(name, value) != value else None)
        for name, value in settings.items()
    ]


def repeat(run: Run) -> Repeat:
    """How to do the run again."""
    if not run.settings:
        return Repeat("The run failed before it wrote its settings.", "")
    if run.settings.get("task") == OWN_TASK:
        return Repeat(
            "The silos' data stay with them: only this federation can repeat the run, with fedlaw deploy run or fedlaw "
            "deploy containers run, and the settings below.",
            "",
        )
    defaults = Settings().as_config()
    given = [
        f"{name}={_spelled(value)}"
        for name, value in run.settings.items()
        if name in defaults and name != "run-dir" and defaults[name] != value
    ]
    sentence = "This command repeats the run. Add --engine batched or --engine in-process if it was run so."
    return Repeat(sentence, shlex.join(["fedlaw", "run", *given]))


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()  # as it is written in a setting
    return "(empty)" if value == "" else value
