"""What commands share: the federation read from its file, a line on the screen, a run followed, its page served."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from fedlaw_flwr.core.errors import InputError

if TYPE_CHECKING:
    from fedlaw_flwr.deploy.federation import Federation
    from fedlaw_flwr.deploy.folder import FederationFolder
    from fedlaw_flwr.events.types import Event, OnEvent
    from fedlaw_flwr.reporting.serving import ReportServer

console = Console()

File = Annotated[Path, typer.Argument(help="The federation's YAML file.", metavar="FEDERATION.YAML")]
SiloName = Annotated[str, typer.Argument(help="The silo's name in federation.yaml.", metavar="SILO")]
Changes = Annotated[list[str] | None, typer.Argument(help="name=value, changed for this run alone.")]
Serve = Annotated[bool, typer.Option("--serve", help="Serve the report to browsers of this machine.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="With --serve: the port; 0 takes a free one.")]
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


class ServedReport:
    """The report of a run on a port of this machine, until the context ends; nothing where it is not wanted.

    Args:
        wanted: Whether there is to be a page.
        port: 0 takes a free one.
    """

    def __init__(self, wanted: bool, port: int) -> None:
        self._wanted, self._port = wanted, port
        self._server: ReportServer | None = None

    def __enter__(self) -> "ServedReport":
        return self

    @property
    def address(self) -> str:
        """Where a browser finds the page; empty where there is none yet."""
        return "" if self._server is None else self._server.address

    def show(self, folder: Path) -> None:
        """Serves the run of this folder from now on, at the address served so far if there is one."""
        from fedlaw_flwr.reporting.serving import ReportServer

        if not self._wanted:
            return
        if self._server is not None:
            self._server.folder = folder
            return
        try:
            self._server = ReportServer(folder, port=self._port)
        except OSError as error:
            raise InputError(f"port={self._port}: {error.strerror}; name another or 0 for a free one") from None
        self._server.page()  # what is missing for it is told before the run is shown
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        say(f"The report: {self.address}")

    def stay(self) -> None:
        """Goes on until Ctrl-C, where there is a page."""
        if self._server is not None:
            say(f"The report stays at {self.address} until Ctrl-C.")
            with suppress(KeyboardInterrupt):
                threading.Event().wait()

    def __exit__(self, *error: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def watch_run(folder: Path, events: "Iterator[Event]", title: str, serve: bool, port: int) -> None:
    """Shows a run from its folder until it ends, its page too if that is wanted; Ctrl-C ends the watching alone.

    Args:
        folder: The run folder; it may lack everything but its first event.
        events: Its events, those there are and those to come.
        title: What stands over the verdict.
        serve: Whether its report is served.
        port: Where; 0 takes a free port.
    """
    from fedlaw_flwr.events.record import Run
    from fedlaw_flwr.events.verdict import verdict
    from fedlaw_flwr.reporting.terminal import LiveRun, verdict_table

    with suppress(KeyboardInterrupt), ServedReport(serve, port) as page:
        first = list(islice(events, 1))
        page.show(folder)
        settings = Run.read(folder).settings
        with LiveRun(console, str(settings.get("strategy", "run")), int(settings.get("num-rounds", 0))) as live:
            for event in chain(first, events):
                live.show(event)
        console.print(verdict_table([verdict(Run.read(folder))], escape(title)))
        page.stay()


def follow_run(
    federation: "Federation",
    changed: dict[str, Any],
    go: "Callable[[OnEvent, Callable[[Path], None]], Path]",
    page: ServedReport,
) -> None:
    """Shows a run live, its page too if that is wanted, and prints its verdict, last weights and where its folder is.

    Args:
        federation: The federation.
        changed: Settings by name that differ from the federation's.
        go: Runs it: called with what takes its events and what takes a folder that holds them; returns the run folder.
        page: Where its report is served.
    """
    from fedlaw_flwr.events.record import Run
    from fedlaw_flwr.events.verdict import verdict
    from fedlaw_flwr.reporting.report import write_report
    from fedlaw_flwr.reporting.terminal import LiveRun, verdict_table

    settings = federation.settings(changed)
    with LiveRun(console, settings.strategy, settings.num_rounds) as live:
        folder = go(live.show, page.show)
    page.show(folder)
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
        written = f"report: {write_report(folder)}"
    except ModuleNotFoundError as error:  # the run is done all the same
        written = f"no report: {error}"
    say(f"run folder: {folder}  {escape(written)}")
    page.stay()
