"""Pictures of runs from their events: accuracy over rounds, and the weight of every silo over rounds as a heat map."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.events.record import EXCLUDED_AT, Run, by_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# 9 inches are 900 px at the 100 px an inch that the font sizes below are chosen for; files are twice as fine.
_WIDTH, _SIZE, _DPI = 9.0, 9, 200
# The width of a column of the usual two-column papers, in inches.
_COLUMN = 3.4
_COLUMN_STYLE: dict[Any, Any] = {
    "font.size": 7,
    "axes.titlesize": 7,
    "legend.fontsize": 6,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "pdf.fonttype": 42,  # publishers want letters as letters
}
_KINDS = ("png", "svg", "pdf")
# Above this many silos a name a row cannot be read; the two groups are named instead.
_NAMED = 40
_INK, _ATTACKER, _ABSENT, _FROZEN = "#222222", "#b3261e", "#d0d0d0", "#e08e00"
LINES = ("#1f5fa8", "#c2571a", "#3c7d3c", "#7b4ea3", "#8a6d00", "#555555")
DASHES = ("-", "--", "-.", ":")
STYLE: dict[Any, Any] = {
    "font.size": _SIZE,
    "axes.titlesize": _SIZE,
    "axes.edgecolor": "#888888",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "fedlaw",  # the same run gives the same file
    "axes.unicode_minus": False,
}


def weights_picture(folder: Path, path: Path) -> Path:
    """Writes accuracy over rounds beside the weights of one run's silos to `path` (.png, .svg or .pdf); returns it."""
    run = Run.read(folder)
    return _save(_figure({strategy_name(run.settings): run.accuracies}, weight_map(run)), path)


def comparison_picture(folders: Sequence[Path], path: Path) -> Path:
    """Writes the accuracies of several runs in one axes, beside the weights of the first run that has any."""
    runs = [Run.read(folder) for folder in folders]
    labels = run_labels([run.settings for run in runs])
    curves = {label: run.accuracies for label, run in zip(labels, runs, strict=True)}
    maps = [(label, weight_map(run)) for label, run in zip(labels, runs, strict=True)]
    label, weights = next(((label, found) for label, found in maps if found is not None), ("", None))
    return _save(_figure(curves, weights, label), path)


def column_figures(folders: Sequence[Path], out: Path) -> list[Path]:
    """Writes pictures that fit a column of a paper, 3.4 inches wide with letters of 7 points, into a folder.

    Args:
        folders: Run folders.
        out: The folder; it is made if it is not there.

    Returns:
        The paths written, each picture as .png, .svg and .pdf: `accuracy` of all runs where any measured it, and
        `weights`, or `weights-1`, `weights-2` and on where there are several runs, of each run that has weights.
    """
    with report_extra():
        import matplotlib
        from matplotlib.figure import Figure
    runs = [Run.read(folder) for folder in folders]
    labels = run_labels([run.settings for run in runs])
    curves = {label: run.accuracies for label, run in zip(labels, runs, strict=True) if run.accuracies}
    maps = [(number, label, weight_map(run)) for number, (label, run) in enumerate(zip(labels, runs, strict=True), 1)]
    pictures: dict[str, Figure] = {}
    with matplotlib.rc_context(STYLE | _COLUMN_STYLE):
        if curves:
            pictures["accuracy"] = Figure(figsize=(_COLUMN, 2.3), layout="constrained", facecolor="white")
            _draw_accuracy(pictures["accuracy"].subplots(), curves)
        for number, label, weights in maps:
            if weights is not None:
                name = f"weights-{number}" if len(runs) > 1 else "weights"
                height = 1.1 + min(0.11 * len(weights.silos), 4.4)
                pictures[name] = Figure(figsize=(_COLUMN, height), layout="constrained", facecolor="white")
                axes = pictures[name].subplots()
                _draw_weights(axes, weights, "")
                # The title of the wide picture does not fit a column.
                below = ", attackers below the line" if weights.attackers else ""
                axes.set_title(_plain(f"weights{f', {label}' if len(runs) > 1 else ''}{below}", 60), parse_math=False)
    if not pictures:
        raise InputError(f"{', '.join(map(str, folders))}: no accuracy and no weights to draw")
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in pictures.items():
        for kind in _KINDS:
            paths.append(out / f"{name}.{kind}")
            write(figure, paths[-1], kind, _COLUMN_STYLE)
    return paths


@contextmanager
def report_extra() -> Iterator[None]:
    """Around an import of matplotlib or jinja2: turns its absence into one sentence that says what to install."""
    try:
        yield
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{(error.name or 'a package').split('.')[0]} is not installed, and reports and pictures need it: "
            "pip install 'fedlaw-flwr[report]'"
        ) from None


# What is drawn


@dataclass(frozen=True)
class WeightMap:
    """What the heat map shows.

    Attributes:
        silos: The silos, a row each; the last `attackers` of them attack.
        attackers: How many attack.
        rounds: The rounds, a column each.
        weights: (len(silos), len(rounds)); NaN where a silo or a round has none.
        frozen_after: The last round that learned weights, if rounds with frozen weights came after it.
    """

    silos: Sequence[str]
    attackers: int
    rounds: Sequence[int]
    weights: NDArray[np.float64]
    frozen_after: int | None


def weight_map(run: Run) -> WeightMap | None:
    """The weight of every silo in every round, honest silos first; None for a run without weights."""
    if not run.weights:
        return None
    numbers = [event.round for event in run.rounds]
    seen = {silo for weights in run.weights.values() for silo in weights} | set(run.attackers)
    silos = sorted(seen, key=lambda silo: (silo in run.attackers, by_number(silo)))
    matrix = np.array([[run.weights.get(number, {}).get(silo, np.nan) for number in numbers] for silo in silos])
    learned = run.learned_by(max(numbers))
    frozen = learned.round if learned is not None and learned.round < max(numbers) else None
    return WeightMap(silos, sum(silo in run.attackers for silo in silos), numbers, matrix, frozen)


def strategy_name(settings: Mapping[str, Any]) -> str:
    """The strategy as people know it."""
    name = str(settings.get("strategy", "run"))
    if name != "fedlaw":
        return name
    variant = str(settings.get("variant", "fedlaw"))
    return "FedLAW" if variant == "fedlaw" else f"FedLAW, variant {variant}"


def run_labels(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each run, all different: the strategy and, where that is not enough, the settings that differ."""
    labels: list[str] = []
    for number, settings in enumerate(runs):
        name = strategy_name(settings)
        same = [other for other in runs if strategy_name(other) == name]
        differ = [
            f"{key} {value}"
            for key, value in settings.items()
            if key != "run-dir" and any(other.get(key) != value for other in same)
        ]
        label = ", ".join([name, *differ[:2]])
        labels.append(label if label not in labels else f"{label} (run {number + 1})")
    return labels


# How it is drawn


def _figure(curves: Mapping[str, Mapping[int, float]], weights: WeightMap | None, of: str = "") -> "Figure":
    with report_extra():
        import matplotlib
        from matplotlib.figure import Figure
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, _height(weights)), layout="constrained", facecolor="white")
        if weights is None:
            _draw_accuracy(figure.subplots(), curves)
        else:
            left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
            _draw_accuracy(left, curves)
            _draw_weights(right, weights, of)
    return figure


def _height(weights: WeightMap | None) -> float:
    """Inches: a row needs 0.17 for its name to be read, and no picture more than a page."""
    if weights is None:
        return 3.2
    return max(3.2, 1.0 + 0.17 * len(weights.silos)) if len(weights.silos) <= _NAMED else 5.5


def _draw_accuracy(axes: "Axes", curves: Mapping[str, Mapping[int, float]]) -> None:
    from matplotlib import rcParams
    from matplotlib.ticker import MaxNLocator

    for number, (label, curve) in enumerate(curves.items()):
        rounds, percent = list(curve), [100 * value for value in curve.values()]
        last = f": {percent[-1]:.1f} %" if percent else ": not measured"
        axes.plot(
            rounds,
            percent,
            color=LINES[number % len(LINES)],
            linestyle=DASHES[number % len(DASHES)],
            linewidth=1.5,
            marker="o" if len(curve) < 30 else None,
            markersize=2.5,
            label=_plain(label, 40) + last,
        )
    axes.set(ylim=(0, 100), xlabel="round", title="accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    legend = axes.legend(loc="best", frameon=True, framealpha=0.9, edgecolor="none", fontsize=rcParams["font.size"] - 1)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _draw_weights(axes: "Axes", weights: WeightMap, of: str) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.ticker import MaxNLocator

    n, first, last = len(weights.silos), weights.rounds[0], weights.rounds[-1]
    blues = ListedColormap(colormaps["Blues"](np.linspace(0.18, 0.85, 256)))
    image = axes.imshow(
        weights.weights,
        aspect="auto",
        interpolation="nearest",
        extent=(first - 0.5, last + 0.5, n - 0.5, -0.5),
        cmap=blues.with_extremes(under="white", bad=_ABSENT),
        vmin=EXCLUDED_AT,
        vmax=float(np.nanmax(weights.weights)),
    )
    axes.spines[:].set_visible(True)
    axes.figure.colorbar(image, ax=axes, pad=0.02, aspect=30, shrink=0.9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _name_rows(axes, weights)
    if weights.attackers and weights.attackers < n:
        axes.axhline(n - weights.attackers - 0.5, color=_ATTACKER, linewidth=1.2)
    legend = "white: no weight   grey: no answer or no step"
    if weights.frozen_after is not None:
        axes.axvline(weights.frozen_after + 0.5, color=_FROZEN, linewidth=1.2, linestyle="--")
        legend += "\nright of the dashes: frozen weights"
    axes.set_xlabel(f"round\n{legend}")
    below = " (attackers below the line, in red)" if weights.attackers else ""
    axes.set_title(f"weight of each silo{f', {_plain(of, 30)}' if of else ''}{below}", parse_math=False)


def _name_rows(axes: "Axes", weights: WeightMap) -> None:
    """Names every row while names can be read; otherwise the two groups, each at its middle."""
    from matplotlib import rcParams

    n, honest = len(weights.silos), len(weights.silos) - weights.attackers
    if n <= _NAMED:
        axes.set_yticks(range(n), [_plain(silo, 16) for silo in weights.silos], parse_math=False)
        axes.tick_params(axis="y", labelsize=rcParams["font.size"] - 2)
        for label in axes.get_yticklabels()[honest:]:
            label.set_color(_ATTACKER)
        return
    groups = [((honest - 1) / 2, f"{honest} {'honest' if weights.attackers else 'silos'}", _INK)] if honest else []
    if weights.attackers:
        groups.append((honest + (weights.attackers - 1) / 2, f"{weights.attackers} attackers", _ATTACKER))
    axes.set_yticks([at for at, _, _ in groups], [text for _, text, _ in groups], rotation=90, va="center")
    for label, (_, _, colour) in zip(axes.get_yticklabels(), groups, strict=True):
        label.set_color(colour)
    axes.tick_params(axis="y", length=0)


def _plain(name: str, most: int) -> str:
    """A name someone else chose, as one short line of printable characters."""
    text = "".join(letter if letter.isprintable() else "?" for letter in name)
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _save(figure: "Figure", path: Path) -> Path:
    kind = path.suffix.lower().lstrip(".")
    if kind not in _KINDS:
        raise InputError(f"path={str(path)!r}: a picture is written as .png, .svg or .pdf")
    write(figure, path, kind)
    return path


def write(figure: "Figure", target: Path, kind: str, style: Mapping[Any, Any] | None = None) -> None:
    """Writes a figure as svg, png or pdf, the same bytes for the same figure."""
    import warnings

    import matplotlib

    # Without these SVG carries the date and three addresses, and PDF the date; PNG has none of them.
    unsaid = {"svg": ("Date", "Creator", "Format", "Type"), "pdf": ("CreationDate", "Creator", "Producer")}
    metadata = dict.fromkeys(unsaid[kind]) if kind in unsaid else None
    with matplotlib.rc_context({**STYLE, **(style or {})}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a silo's name may be in any script
        figure.savefig(target, format=kind, dpi=_DPI, metadata=metadata)
