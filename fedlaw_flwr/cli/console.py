"""What the operators' commands share: the federation read from its file, a line on the screen, a run followed."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from fedlaw_flwr.deploy.federation import Federation
    from fedlaw_flwr.deploy.folder import FederationFolder
    from fedlaw_flwr.events.types import OnEvent

console = Console()

File = Annotated[Path, typer.Argument(help="The federation's YAML file.", metavar="FEDERATION.YAML")]
SiloName = Annotated[str, typer.Argument(help="The silo's name in federation.yaml.", metavar="SILO")]
Changes = Annotated[list[str] | None, typer.Argument(help="name=value, changed for this run alone.")]
Archive = Annotated[Path, typer.Argument(help="A backup's .tar.gz.", metavar="ARCHIVE")]


def read(file: Path) -> "tuple[Federation, FederationFolder]":
    """The federation of this file, checked, and its folder beside it."""
    from fedlaw_flwr.deploy.federation import Federation
    from fedlaw_flwr.deploy.folder import FederationFolder

    federation = Federation.read(file)
    return federation, FederationFolder.beside(file, federation.name)


def say(text: str) -> None:
    """One line to the operator."""
    console.print(text, soft_wrap=True, highlight=False)


def follow_run(federation: "Federation", changed: dict[str, Any], go: "Callable[[OnEvent], Path]") -> None:
    """Shows a run live and prints its verdict, each silo's last weight and where its folder is."""
    from fedlaw_flwr.events.record import Run
    from fedlaw_flwr.events.verdict import verdict
    from fedlaw_flwr.reporting.report import write_report
    from fedlaw_flwr.reporting.terminal import LiveRun, verdict_table

    settings = federation.settings(changed)
    with LiveRun(console, settings.strategy, settings.num_rounds) as live:
        folder = go(live.show)
    run = Run.read(folder)
    console.print()
    console.print(verdict_table([verdict(run)], f"{federation.name}: {len(federation.silos)} silos"))
    for name, value in sorted(run.last_metrics.items()):
        if isinstance(value, float) and name not in ("loss", "accuracy", "num-examples"):
            say(f"  {name}: {value:.3f} at the end")
    told = {silo.name: " (mislabelled on purpose)" for silo in federation.silos if silo.mislabelled}
    told |= dict.fromkeys(federation.drills, " (a drill)")
    for name, weight in sorted(run.final_weights.items()):
        say(f"  {name}: weight {weight:.3f}{told.get(name, '')}")
    try:
        page = f"report: {write_report(folder)}"
    except ModuleNotFoundError as error:  # the run is done all the same
        page = f"no report: {error}"
    say(f"run folder: {folder}  {escape(page)}")
