"""`fedlaw new`: starts an institution's own task package, or a Flower app that uses FedLAW."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

new = typer.Typer(help="Starts a project.", no_args_is_help=True)
_console = Console()


@new.command(name="silo")
def new_silo(
    name: Annotated[str, typer.Argument(help="A Python module's name, as my_hospital.")],
    folder: Annotated[Path, typer.Option(help="In which folder the project's own is made.")] = Path(),
) -> None:
    """A task of a silo's own that trains as it is: package, test, silo.yaml, synthetic data; never overwrites."""
    from fedlaw_flwr.silo.scaffold import scaffold

    for path in scaffold(name, folder):
        _say(f"made  {path}")
    _say(f"Next, in {folder / name}: the three commands of its README.md.")


@new.command(name="app")
def new_app(
    name: Annotated[str, typer.Argument(help="A Python module's name, as my_app.")],
    folder: Annotated[Path, typer.Option(help="In which folder the project's own is made.")] = Path(),
) -> None:
    """A Flower app that uses FedLAW and runs as it is, with `flwr run`: client, server, data; never overwrites."""
    from fedlaw_flwr.apps.scaffold import scaffold

    for path in scaffold(name, folder):
        _say(f"made  {path}")
    _say(f"Next, in {folder / name}: the command of its README.md.")


def _say(text: str) -> None:
    _console.print(escape(text), soft_wrap=True, highlight=False)
