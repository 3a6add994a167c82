"""Commands on run folders: list them, watch one, report one or several, compare them, draw them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from fedlaw_flwr.cli.console import Port, Serve, console, say, watch_run
from fedlaw_flwr.cli.verdict import AsJson, print_json, summary
from fedlaw_flwr.core.errors import InputError, NotThere

Folder = Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")]
Folders = Annotated[list[Path], typer.Argument(help="Run folders; the first is the one explained.", metavar="RUN")]


def report(
    folders: Folders,
    out: Annotated[Path | None, typer.Option("--out", help="Where the page goes, in place of the run folder.")] = None,
) -> None:
    """Writes the report of a run into its folder: who was excluded, when, why, at what cost.

    With several runs the others are laid beside the first, in comparison.html.
    """
    from fedlaw_flwr.reporting.report import write_report

    first, *others = folders
    console.print(f"[bold]{escape(str(write_report(first, *others, to=out)))}[/]", soft_wrap=True, highlight=False)


def watch(
    folder: Folder,
    serve: Serve = False,
    port: Port = 0,
) -> None:
    """Follows a run from another terminal, or shows one that is over. Ctrl-C ends the watching, not the run."""
    from fedlaw_flwr.events.folder import follow_events
    from fedlaw_flwr.events.record import Run

    watch_run(folder, follow_events(folder), Run.read(folder).name, serve, port)


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder that holds run folders.", metavar="FOLDER")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Lists the runs in a folder and in the folders below it: how each ended, and its figures."""
    from fedlaw_flwr.events.folder import EVENTS
    from fedlaw_flwr.events.record import Run
    from fedlaw_flwr.events.verdict import verdict

    if not folder.is_dir():
        raise NotThere(f"{folder}: there is no such folder; name the folder that holds run folders")
    found = sorted(path.parent for path in folder.rglob(EVENTS))
    if not found:
        raise InputError(f"{folder}: there is no run here; name the folder that holds run folders")
    if as_json:
        print_json([summary(Run.read(path), path) for path in found])
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("run", "ended", "strategy", "task", "attack"):
        table.add_column(heading, overflow="fold")
    for heading in ("rounds", "accuracy", "caught", "wrongly"):
        table.add_column(heading, justify="right")
    for path in found:
        run = Run.read(path)
        figures = verdict(run)
        counts = (figures.caught, figures.attackers), (figures.wrongly_excluded, figures.honest)
        table.add_row(
            escape(str(path.relative_to(folder)) if path != folder else str(path)),
            run.end.status if run.end else "not ended",
            *(escape(str(run.settings.get(name, "?"))) for name in ("strategy", "task", "attack")),
            f"{figures.rounds}/{run.settings.get('num-rounds', '?')}",
            "-" if figures.accuracy is None else f"{100 * figures.accuracy:.1f} %",
            *("-" if count is None else f"{count}/{of}" for count, of in counts),
        )
    console.print(table)


def compare(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, two or more.", metavar="RUN")],
    out: Annotated[Path | None, typer.Option("--out", help="Where the page goes, in place of the first run.")] = None,
) -> None:
    """Sets runs side by side: their figures and the settings that differ, here and as a page."""
    from fedlaw_flwr.events.record import Run
    from fedlaw_flwr.events.verdict import verdict
    from fedlaw_flwr.reporting.report import side_by_side, write_report
    from fedlaw_flwr.reporting.terminal import verdict_table

    if len(folders) < 2:
        raise InputError("there is nothing to compare with: name two run folders or more")
    read = [Run.read(folder) for folder in folders]
    both = side_by_side(read)
    console.print(verdict_table([verdict(run) for run in read], "Runs side by side", both.labels))
    if both.differ:
        table = Table(title="Settings that differ", title_justify="left")
        for heading in ("", *both.labels):
            table.add_column(escape(heading))
        for name, values in both.differ:
            table.add_row(name, *(escape(str(value)) for value in values))
        console.print(table)
    say(f"page: {escape(str(write_report(folders[0], *folders[1:], to=out)))}")


def figures(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN")],
    out: Annotated[Path, typer.Option("--out", help="The folder the pictures go into.")] = Path("figures"),
) -> None:
    """Draws runs for a paper's column: accuracy of all, weights of each, as PNG, SVG and PDF."""
    from fedlaw_flwr.reporting.figures import column_figures

    for path in column_figures(folders, out):
        say(escape(str(path)))


def export(
    tracker: Annotated[str, typer.Argument(help="tensorboard or mlflow.", metavar="TRACKER")],
    folders: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN")],
    to: Annotated[
        str,
        typer.Option(help="tensorboard: the folder its --logdir names (tensorboard); mlflow: the tracking URI."),
    ] = "",
    experiment: Annotated[str, typer.Option(help="mlflow: the experiment.")] = "fedlaw",
) -> None:
    """Writes runs for TensorBoard or MLflow: scalars a round, weights, the report."""
    from fedlaw_flwr.reporting.trackers import to_mlflow, to_tensorboard

    if tracker not in ("tensorboard", "mlflow"):
        raise InputError(f"tracker={tracker!r}: allowed are tensorboard, mlflow")
    for folder in folders:
        if tracker == "tensorboard":
            say(escape(str(to_tensorboard(folder, Path(to or "tensorboard")))))
        else:
            say(f"run {to_mlflow(folder, to, experiment)} of experiment {escape(experiment)}")
