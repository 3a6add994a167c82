"""`fedlaw grid`: does what an experiment's table lacks, several runs at a time, then sums up and draws."""

import os
import shlex
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from fedlaw_flwr.core.errors import InputError

_console = Console()


def grid(
    experiment: Annotated[Path, typer.Argument(help="experiments/NAME.yaml")],
    data_dir: Annotated[str, typer.Option(help="The folder torchvision keeps its files in.")] = "",
    download: Annotated[bool, typer.Option("--download", help="Let torchvision download into it.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, auto")] = "cpu",
    at_once: Annotated[
        int, typer.Option(min=0, help="Most runs at a time; 0: a core each, as memory allows; on a GPU one.")
    ] = 0,
    only: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, also method=NAME: only runs that have it; of one NAME, any of its values."),
    ] = None,
    results: Annotated[Path, typer.Option(help="Where tables, curves and pictures go.")] = Path("results"),
    runs: Annotated[Path, typer.Option(help="Where the run folders go, NAME/RUN each.")] = Path("runs/grid"),
    show: Annotated[bool, typer.Option("--show", help="Sum up and draw what is there; run nothing.")] = False,
) -> None:
    """Every run of an experiment that its table lacks; a killed grid goes on where it stopped."""
    from fedlaw_flwr.studies.curves import Curves
    from fedlaw_flwr.studies.parallel import run_several
    from fedlaw_flwr.studies.plan import Experiment
    from fedlaw_flwr.studies.summary import cells_of
    from fedlaw_flwr.studies.table import opened, read_rows
    from fedlaw_flwr.studies.worker import Place

    where: dict[str, Any] = {"download": download, "device": device, **({"data-dir": data_dir} if data_dir else {})}
    if show:  # what only says where it would be computed is not needed
        where["data-dir"] = data_dir or str(results.resolve().parent)
    plan = Experiment.read(experiment, where)
    path = results / f"{plan.name}.csv"
    curves = Curves(path)
    chosen = _chosen(plan, only or [])
    failures: dict[str, str] = {}
    if not show:
        with opened(path) as table, curves.packed_at_the_end():
            taken = _take(chosen, table, curves)
            waiting = [planned for planned in chosen if planned.key not in table.done]
            also = f" ({taken} of them for other experiments)" if taken else ""
            done = len(table.done & {planned.key for planned in plan.runs})
            _console.print(f"[bold]{plan.name}[/]: {len(plan.runs)} runs, {done} done{also}, {len(waiting)} to do")
            place = Place(where, runs / plan.name, curves.folder, plan.silos_per_batch)
            most = at_once or (1 if device != "cpu" else os.cpu_count() or 1)
            rounds = {planned.key: planned.settings(where).num_rounds for planned in waiting}
            with _display(plan.varied, rounds) as display, closing(run_several(waiting, place, most)) as messages:
                for planned, message in messages:
                    if "row" in message:
                        table.append(message["row"])
                    elif "round" not in message:
                        reason = message.get("error") or _lost(message["lost"])
                        failures[planned.text] = reason
                    display.note(planned, message)
    rows = read_rows(path)
    if rows:
        cells = cells_of(plan, rows)
        _console.print(_table(plan, cells))
        _write(plan, rows, cells, results, curves)
    for text, reason in failures.items():
        here = shlex.join(f"{name}={value}" for name, value in where.items() if value not in ("", False, "cpu"))
        command = f"fedlaw run --engine batched --silos-per-batch {plan.silos_per_batch} {text} {here}"
        _console.print(f"[red]failed:[/] {escape(reason)}\n  {escape(command)}", soft_wrap=True, highlight=False)
    if failures:
        raise typer.Exit(1)


def _take(chosen: Sequence[Any], table: Any, curves: Any) -> int:
    """Takes over what was done for another experiment, its curve first; returns how many rows."""
    from fedlaw_flwr.studies.curves import curves_elsewhere
    from fedlaw_flwr.studies.table import found_elsewhere

    elsewhere, taken = found_elsewhere(table.path), 0
    wanted = [planned for planned in chosen if planned.key in elsewhere and planned.key not in table.done]
    found = {other: curves_elsewhere(other) for other in {elsewhere[planned.key][1] for planned in wanted}}
    for planned in wanted:
        row, other = elsewhere[planned.key]
        if planned.name in found[other]:
            curves.add(planned.name, found[other][planned.name])
            table.append(row)
            taken += 1
    return taken


def _chosen(plan: Any, only: Sequence[str]) -> list[Any]:
    """The runs that have, of every name in these NAME=VALUE pairs, one of its values.

    Raises:
        InputError: If a pair is no NAME=VALUE, or if no run has its value or all of the values.
    """
    from fedlaw_flwr.studies.plan import current_name

    wanted: dict[str, set[str]] = {}
    for pair in only:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--only {pair!r}: NAME=VALUE is expected")
        wanted.setdefault(current_name(name), set()).add(value)
    have = [
        {name: f"{value}" for name, value in {**run.values, "seed": run.seed, "method": run.method}.items()}
        for run in plan.runs
    ]
    for name in wanted:
        there = list(dict.fromkeys(values[name] for values in have if name in values))
        missing = wanted[name] - set(there)
        if missing:
            known = f"there are {', '.join(there[:20])}" if there else "no run names that setting"
            raise InputError(f"--only {name}={', '.join(sorted(missing))}: no run of {plan.name} has that; {known}")
    chosen = [
        run
        for run, values in zip(plan.runs, have, strict=True)
        if all(values.get(name) in values_of for name, values_of in wanted.items())
    ]
    if not chosen:
        raise InputError(f"--only {' '.join(only)}: no run of {plan.name} has all of that")
    return chosen


def _lost(code: int | None) -> str:
    """What a process that ended unheard may have died of."""
    if code == -signal.SIGKILL:
        return "its process was killed, as for want of memory; fewer at a time (--at-once) need less"
    return f"its process ended with {code} and said nothing"


def _write(plan: Any, rows: Sequence[Mapping[str, str]], cells: Sequence[Any], results: Path, curves: Any) -> None:
    """The summary beside the table, and the pictures where matplotlib is there."""
    from fedlaw_flwr.studies.drawing import draw_all
    from fedlaw_flwr.studies.summary import write_summary

    write_summary(cells, results / f"{plan.name}-summary.csv")
    try:
        drawn = draw_all(plan, rows, curves.read(), results)
    except ModuleNotFoundError as error:
        drawn = []
        _console.print(f"no pictures: {error}", soft_wrap=True)
    files = [results / f"{plan.name}.csv", results / f"{plan.name}-summary.csv", *drawn]
    _console.print("written: " + ", ".join(map(str, files)), soft_wrap=True, highlight=False)


def _table(plan: Any, cells: Sequence[Any]) -> Any:
    """A row a cell: method and settings that differ in one column, or on a narrow terminal no number could be read."""
    from rich.table import Table as Drawn

    theirs = any(cell.paper is not None for cell in cells)
    table = Drawn(title=f"{plan.name}: test accuracy, %")
    table.add_column("run", overflow="fold")
    for name in ("seeds", "accuracy", *(["paper", "difference"] if theirs else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for cell in cells:
        paper = ["", ""] if cell.paper is None else [f"{cell.paper:.1f}", f"{cell.difference:+.1f}"]
        own = f"{cell.accuracy:.1f}" + ("" if cell.deviation is None else f" ± {cell.deviation:.1f}")
        run = escape(_label(cell.method, plan.varied, cell.axes))
        table.add_row(run, str(len(cell.seeds)), own, *(paper if theirs else []))
    return table


def _label(method: str, varied: Sequence[str], values: Mapping[str, Any]) -> str:
    """The method, and NAME=VALUE of each setting that differs."""
    return " ".join([method, *(f"{name}={values[name]}" for name in varied if name in values)])


class _Display:
    """Bars for the whole and for every run under way on a terminal; a line a finished run everywhere."""

    def __init__(self, progress: Progress, varied: Sequence[str], rounds: Mapping[tuple[str, str], int]) -> None:
        self._progress, self._varied, self._rounds = progress, varied, rounds
        self._all, self._done, self._ended = sum(rounds.values()), 0, 0
        self._whole = progress.add_task("all runs", total=max(1, self._all), left="")
        self._bars: dict[str, tuple[TaskID, int]] = {}
        self._began = time.monotonic()

    def note(self, planned: Any, message: Mapping[str, Any]) -> None:
        """Shows what a run said."""
        label = escape(f"{_label(planned.method, self._varied, planned.values)} seed={planned.seed}")
        rounds = self._rounds[planned.key]
        bar, seen = self._bars.get(planned.name) or (self._progress.add_task(label, total=rounds, left=""), 0)
        now = int(message.get("round", rounds))  # what ended early needs none of its rounds any more
        self._done += now - seen
        self._bars[planned.name] = (bar, now)
        self._progress.update(bar, completed=now)
        self._progress.update(self._whole, completed=self._done, left=self._left())
        if "round" not in message:
            self._ended += 1
            self._progress.remove_task(bar)
            what = f"accuracy {100 * message['row']['accuracy']:.1f} %" if "row" in message else "failed"
            line = f"{self._ended} of {len(self._rounds)}: {label}: {what}{'; ' * bool(self._left())}{self._left()}"
            self._progress.console.print(line, soft_wrap=True, highlight=False)

    def _left(self) -> str:
        """How long the rest takes at the pace so far, of rounds, all alike; empty where nothing is left."""
        if not 0 < self._done < self._all:
            return ""
        seconds = (time.monotonic() - self._began) * (self._all - self._done) / self._done
        hours, minutes = divmod(max(1, round(seconds / 60)), 60)
        return f"about {hours} h {minutes:02} min left" if hours else f"about {minutes} min left"


@contextmanager
def _display(varied: Sequence[str], rounds: Mapping[tuple[str, str], int]) -> Iterator[_Display]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=_console, disable=not _console.is_terminal) as progress:
        yield _Display(progress, varied, rounds)
