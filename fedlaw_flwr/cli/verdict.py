"""`fedlaw verdict`: what a run came to, as JSON too, for programs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from fedlaw_flwr.cli.console import console, say

if TYPE_CHECKING:
    from fedlaw_flwr.events.record import Run

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
        print_json({**summary(run, folder), **figures})
        return
    console.print(verdict_table([verdict_of(run)], run.name))
    say(escape(str(silos)))


def summary(run: "Run", folder: Path) -> dict[str, Any]:
    """The run in a few words, for a program."""
    return {
        "run": run.name,
        "folder": str(folder),
        "strategy": str(run.settings.get("strategy", "")),
        "rounds": len(run.rounds),
        "status": run.end.status if run.end else "not ended",
        "reason": run.end.reason if run.end else None,
        "excluded": [silo for silo in run.silos if silo in run.excluded],
    }


def print_json(value: Any) -> None:
    """Prints the value as JSON."""
    print(json.dumps(value, indent=2))
