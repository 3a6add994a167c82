"""`fedlaw new`: starts an institution's own task package, or a Flower app that uses FedLAW."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from fedlaw_flwr.cli.console import say

new = typer.Typer(help="Starts a project.", no_args_is_help=True)


@new.command(name="silo")
def new_silo(
    name: Annotated[str, typer.Argument(help="A Python module's name, as my_hospital.")],
    folder: Annotated[Path, typer.Option(help="In which folder the project's own is made.")] = Path(),
) -> None:
    """A task of a silo's own that trains as it is: package, test, silo.yaml, synthetic data; never overwrites."""
    from fedlaw_flwr.silo.scaffold import scaffold

    _tell(scaffold(name, folder), f"Next, in {folder / name}: the three commands of its README.md.")


@new.command(name="app")
def new_app(
    name: Annotated[str, typer.Argument(help="A Python module's name, as my_app.")],
    folder: Annotated[Path, typer.Option(help="In which folder the project's own is made.")] = Path(),
) -> None:
    """A Flower app that uses FedLAW and runs as it is, with `flwr run`: client, server, data; never overwrites."""
    from fedlaw_flwr.apps.scaffold import scaffold

    _tell(scaffold(name, folder), f"Next, in {folder / name}: the command of its README.md.")


def _tell(made: Sequence[Path], following: str) -> None:
    """The files that were made, and what to do next."""
    for line in (*(f"made  {path}" for path in made), following):
        say(escape(line))
