"""`fedlaw verdict` and `fedlaw runs`: what a run came to, and the runs of a folder; as JSON too, for programs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedlaw_flwr.core.errors import NotThere

if TYPE_CHECKING:
    from fedlaw_flwr.events.record import Run

_console = Console()
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]


def verdict(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    as_json: AsJson = False,
) -> None:
    """What a run came to: its figures, and what became of each silo."""
    from fedlaw_flwr.events.record import Run
    from fedlaw_flwr.events.verdict import verdict as verdict_of
    from fedlaw_flwr.reporting.terminal import verdict_table
    from fedlaw_flwr.strategy.account import verdict_on

    run = Run.read(folder)
    silos = verdict_on(run)
    if as_json:
        figures = {"figures": asdict(verdict_of(run)), "silos": [asdict(row) for row in silos]}
        _print_json({**_summary(run, folder), **figures})
        return
    _console.print(verdict_table([verdict_of(run)], run.name))
    _console.print(escape(str(silos)), soft_wrap=True, highlight=False)


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder of run folders.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """The runs of a folder, the oldest first by name: strategy, rounds, how each ended, who got no weight."""
    from fedlaw_flwr.events.folder import EVENTS
    from fedlaw_flwr.events.record import Run

    if not folder.is_dir():
        raise NotThere(f"{folder}: there is no such folder; name the folder of run folders")
    found = [_summary(Run.read(path.parent), path.parent) for path in sorted(folder.glob(f"*/{EVENTS}"))]
    if as_json:
        _print_json(found)
        return
    table = Table("run", "strategy", "rounds", "status", "no weight", box=None, padding=(0, 2, 0, 0))
    for one in found:
        cells = (one["run"], one["strategy"], str(one["rounds"]), one["status"], ", ".join(one["excluded"]))
        table.add_row(*map(escape, cells))
    _console.print(table)


def _summary(run: "Run", folder: Path) -> dict[str, Any]:
    return {
        "run": run.name,
        "folder": str(folder),
        "strategy": str(run.settings.get("strategy", "")),
        "rounds": len(run.rounds),
        "status": run.end.status if run.end else "not ended",
        "reason": run.end.reason if run.end else None,
        "excluded": [silo for silo in run.silos if silo in run.excluded],
    }


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))
