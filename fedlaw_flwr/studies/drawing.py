"""The pictures an experiment file asks for, from its curves: accuracy, communication, weights, sweeps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import mean, stdev
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from fedlaw_flwr.events.record import EXCLUDED_AT
from fedlaw_flwr.reporting.figures import DASHES, LINES, STYLE, report_extra, write
from fedlaw_flwr.studies.curves import Point
from fedlaw_flwr.studies.plan import Experiment, Figure, PlannedRun
from fedlaw_flwr.studies.table import Row, key_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.legend import Legend
    from matplotlib.text import Text

_ATTACKER, _HONEST = "#b3261e", "#1f5fa8"
COLOURS = (*LINES, "#c2478d", "#1f9a9a", "#8fae1b", "#7a3b2e")
"""A method each; from the eleventh method on they begin again, with other dashes."""
_Dashes = str | tuple[int, tuple[int, ...]]
_DASHES: tuple[_Dashes, ...] = (*DASHES, (0, (9, 2)), (0, (1, 3)), (0, (6, 2, 1, 2, 1, 2)), (0, (2, 2)))
_PANEL, _MARGIN = (3.4, 2.9), (1.0, 0.4)  # inches
_TITLE = 3.0  # inches; a panel's title is in the middle of its axes, which leave room for their numbers at the left

Curve = tuple[PlannedRun, Sequence[Point]]


@dataclass(frozen=True)
class Line:
    """What is drawn as one: the runs of a method that differ in the seed alone (in a sweep, and in what it is over)."""

    name: str
    colour: str
    dashes: _Dashes
    curves: Sequence[Curve]

    @property
    def style(self) -> dict[str, Any]:
        """What matplotlib is told of it."""
        return {"color": self.colour, "linestyle": self.dashes}


def draw_all(
    experiment: Experiment, rows: Sequence[Row], curves: Mapping[str, Sequence[Point]], into: Path
) -> list[Path]:
    """Draws every figure for which there are runs, `NAME-1.svg` and on in the file's order; returns the files.

    Args:
        experiment: What asks for the figures.
        rows: The rows of its table; a run without one is not drawn.
        curves: The curves by the name of the run; a run without one is not drawn.
        into: The folder for the files.
    """
    done = set(map(key_of, rows))
    found: list[Curve] = [
        (planned, curves[planned.name]) for planned in experiment.runs if planned.key in done and planned.name in curves
    ]
    drawn = []
    for number, figure in enumerate(experiment.figures, 1):
        chosen = [each for each in found if not figure.methods or each[0].method in figure.methods]
        if chosen:
            path = into / f"{experiment.name}-{number}.svg"
            with report_extra():
                write(canvas_of(figure, chosen), path, "svg")
            drawn.append(path)
    return drawn


def canvas_of(figure: Figure, curves: Sequence[Curve]) -> "Canvas":
    """The picture: at most three panels side by side, below them the names of all lines, above them the title."""
    with report_extra():
        import matplotlib
        from matplotlib.figure import Figure as Canvas
    panels = lines_of(figure, curves)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    draw = _DRAWN[figure.kind]
    with matplotlib.rc_context(STYLE):
        size = (_PANEL[0] * columns + _MARGIN[0], _PANEL[1] * rows + _MARGIN[1])
        canvas = Canvas(figsize=size, layout="constrained", facecolor="white")
        all_axes = canvas.subplots(rows, columns, squeeze=False).ravel()
        for axes, (label, own) in zip(all_axes, panels.items(), strict=False):
            draw(axes, own, figure)
            _fold(axes.set_title(label, parse_math=False), canvas.dpi * _TITLE)
            axes.grid(color="#e6e6e6", linewidth=0.6)
        for axes in islice(all_axes, len(panels), None):
            axes.remove()
        named: dict[str, Artist] = {}
        for axes in all_axes[: len(panels)]:
            for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
                named.setdefault(name, handle)
        if figure.title:
            _fold(canvas.suptitle(figure.title, parse_math=False), 0.96 * canvas.bbox.width)
        if named:
            legend = _legend(canvas, named)
            canvas.set_figheight(size[1] + legend.get_window_extent().height / canvas.dpi)
    return canvas


def _legend(canvas: "Canvas", named: "Mapping[str, Artist]") -> "Legend":
    """The names below the panels, in as many columns, at most four, as the picture is wide enough for."""
    for columns in range(min(4, len(named)), 0, -1):
        legend = canvas.legend(
            list(named.values()), list(named), loc="outside lower center", ncols=columns, frameon=False
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
        if legend.get_window_extent().width <= canvas.bbox.width or columns == 1:
            break
        legend.remove()
    besides = legend.get_window_extent().width - max(text.get_window_extent().width for text in legend.get_texts())
    for text in legend.get_texts():
        _fold(text, canvas.bbox.width - besides)
    return legend


def _fold(text: "Text", width: float) -> None:
    """Breaks a text into lines until it is at most so many pixels wide, as far as its words allow."""
    whole, now = text.get_text(), text.get_window_extent().width
    if now <= width:
        return
    for most in range(int(1.2 * len(whole) * width / now), 0, -1):  # letters a line; some are wider than others
        text.set_text("\n".join(wrap(whole, most, break_long_words=False, break_on_hyphens=False)))
        if text.get_window_extent().width <= width:
            return


def lines_of(figure: Figure, curves: Sequence[Curve]) -> dict[str, list[Line]]:
    """The lines of every panel, by its title. Method and seed may be panels too.

    A method has one colour in all panels. A name, which says besides in which settings runs of the method differ, has
    one style in all panels. Names that share a colour differ in their dashes, as far as there are enough.
    """
    panels: dict[str, list[Curve]] = {}
    for planned, points in curves:
        values = {**planned.values, "method": planned.method, "seed": planned.seed}
        title = ", ".join(f"{name} {values.get(name, '')}" for name in figure.panels)
        panels.setdefault(title, []).append((planned, points))
    named = {title: _by_name(own, figure.over) for title, own in panels.items()}
    methods = list(dict.fromkeys(planned.method for planned, _ in curves))
    alike: dict[int, list[str]] = {}  # the names of each colour
    for own in named.values():
        for name, each in own.items():
            names = alike.setdefault(methods.index(each[0][0].method) % len(COLOURS), [])
            if name not in names:
                names.append(name)
    style = {
        name: (COLOURS[colour], _DASHES[(colour % len(DASHES) + place) % len(_DASHES)])
        for colour, names in alike.items()
        for place, name in enumerate(names)
    }
    return {title: [Line(name, *style[name], each) for name, each in own.items()] for title, own in named.items()}


def _by_name(curves: Sequence[Curve], over: str) -> dict[str, list[Curve]]:
    """The curves of a panel by method and, where runs of a method differ in more than the seed, by that as well.

    What follows the setting of a sweep, and so differs only where that does, is no difference.
    """
    alike: dict[tuple[str, Any], list[PlannedRun]] = {}
    for planned, _ in curves:
        alike.setdefault((planned.method, planned.values.get(over)), []).append(planned)
    names: dict[str, list[Curve]] = {}
    for planned, points in curves:
        others = alike[planned.method, planned.values.get(over)]
        differing = [
            f"{key} {value}"
            for key, value in sorted(planned.values.items())
            if key != over and any(other.values.get(key) != value for other in others)
        ]
        names.setdefault(", ".join([planned.method, *differing]), []).append((planned, points))
    return names


def _accuracy(axes: "Axes", lines: Sequence[Line], figure: Figure) -> None:
    """Mean over seeds, and a band of one deviation, over rounds; over exchanges, which runs differ in, a line a run."""
    over = "exchanges" if figure.kind == "exchanges" else "round"
    for drawn in lines:
        shared = [[point for point in points if point.accuracy is not None] for _, points in drawn.curves]
        length = min(map(len, shared))
        if not length:
            continue
        if over == "exchanges" and len({tuple(point.exchanges for point in points) for points in shared}) > 1:
            for number, points in enumerate(shared):
                x, y = [point.exchanges for point in points], [100 * (point.accuracy or 0.0) for point in points]
                axes.plot(x, y, **drawn.style, linewidth=1.0, alpha=0.7, label=None if number else drawn.name)
            continue
        x = [getattr(point, over) for point in shared[0][:length]]
        percent = 100 * np.array([[point.accuracy for point in points[:length]] for points in shared], dtype=float)
        centre = percent.mean(0)
        axes.plot(x, centre, **drawn.style, linewidth=1.3, label=drawn.name)
        if len(percent) > 1:
            spread = percent.std(0, ddof=1)
            axes.fill_between(x, centre - spread, centre + spread, color=drawn.colour, alpha=0.15, linewidth=0)
    axes.set(ylim=(0, 100), xlabel="exchanges" if over == "exchanges" else "round", ylabel="test accuracy, %")


def _weights(axes: "Axes", lines: Sequence[Line], figure: Figure) -> None:
    """Every silo's weight in the first run of the panel, attackers red."""
    planned, points = lines[0].curves[0]
    attackers = planned.attackers()
    given = [point for point in points if point.weights]
    for silo in range(max((len(point.weights) for point in given), default=0)):
        hostile = silo in attackers
        axes.plot(
            [point.round for point in given],
            [point.weights[silo] if silo < len(point.weights) else np.nan for point in given],
            color=_ATTACKER if hostile else _HONEST,
            linestyle="--" if hostile else "-",
            linewidth=1.1,
            alpha=0.8,
            label="attackers" if hostile else "honest silos",
        )
    axes.set(xlabel="round", ylabel="weight")


def _attackers(axes: "Axes", lines: Sequence[Line], figure: Figure) -> None:
    """The mean weight of an attacker over rounds, on a log scale; 0 is drawn at the floor."""
    floor = EXCLUDED_AT / 10
    for drawn in lines:
        for number, (planned, points) in enumerate(drawn.curves):
            count = len(planned.attackers()) or 1
            given = [(point.round, max(floor, point.mass / count)) for point in points if point.mass is not None]
            if given:
                label = drawn.name if number == 0 else None
                axes.plot(*zip(*given, strict=True), **drawn.style, linewidth=1.2, label=label)
    axes.axhline(EXCLUDED_AT, color="#888888", linewidth=0.8)
    axes.set(yscale="log", xlabel="round", ylabel="mean weight of an attacker")


def _sweep(axes: "Axes", lines: Sequence[Line], figure: Figure) -> None:
    """The last validation accuracy, since a sweep is there to choose by, over one setting: mean and deviation."""
    runs = [planned for drawn in lines for planned, _ in drawn.curves]
    given = {planned.values[figure.over] for planned in runs if figure.over in planned.values}
    steps = sorted(given, key=lambda value: (isinstance(value, str), value))
    for drawn in lines:
        found: dict[int, list[float]] = {}
        for planned, points in drawn.curves:
            validated = (point.validation_accuracy for point in reversed(points))
            last = next((value for value in validated if value is not None), None)
            if last is not None and figure.over in planned.values:
                found.setdefault(steps.index(planned.values[figure.over]), []).append(100 * last)
        if not found:
            continue
        x = sorted(found)
        y = [mean(found[at]) for at in x]
        spread = [stdev(found[at]) if len(found[at]) > 1 else 0.0 for at in x]
        axes.errorbar(x, y, spread, **drawn.style, label=drawn.name, marker="o", markersize=3, capsize=2)
    axes.set_xticks(range(len(steps)), [f"{value}" for value in steps])
    axes.set(xlabel=figure.over, ylabel="validation accuracy, %")


_DRAWN: Mapping[str, Callable[["Axes", Sequence[Line], Figure], None]] = {
    "accuracy": _accuracy,
    "exchanges": _accuracy,
    "weights": _weights,
    "attackers": _attackers,
    "sweep": _sweep,
}
