"""`fedlaw check`: what the checks of a silo's task found, a line each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from fedlaw_flwr.cli.import_path import look_here_too
from fedlaw_flwr.core.errors import AlreadyThere, InputError

_console = Console()
_MARKS = {"ok": "[green]ok   [/]", "wrong": "[red]WRONG[/]", "note": "[yellow]note [/]"}


def check(
    reference: Annotated[str, typer.Argument(help="As under task in silo.yaml.", metavar="TASK")] = "",
    silo: Annotated[
        Path | None, typer.Option(help="Task, data path and options from this silo.yaml instead.", metavar="SILO.YAML")
    ] = None,
    data_path: Annotated[str, typer.Option(help="Where the data is, as in silo.yaml.")] = "",
    option: Annotated[list[str] | None, typer.Option(help="name=value, as under options in silo.yaml.")] = None,
    lr: Annotated[float, typer.Option(help="The run's step.")] = 0.1,
    batch_size: Annotated[int, typer.Option(min=1, help="The run's batch size.")] = 16,
    local_epochs: Annotated[int, typer.Option(min=1, help="The run's passes over the data in an exchange.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, help="Of model and batches; silo.yaml's, or 0.")] = None,
    save_model: Annotated[
        Path | None, typer.Option(help="If nothing is wrong, write the initial model here, for the server.")
    ] = None,
) -> None:
    """Runs a silo's task as the federation would, here and without a server; exit code 1 if anything is wrong.

    TASK is tabular, sql, image_folder or the institution's own, package.module:name; or --silo silo.yaml says it all.
    """
    from fedlaw_flwr.silo import check as checks

    look_here_too()
    if not lr > 0:
        raise InputError(f"--lr {lr:g}: a step above 0 is expected")
    if save_model is not None and save_model.exists():
        raise AlreadyThere(f"--save-model {save_model}: it is there already; name another, or move it away")
    task, path, options, own_seed = _asked(reference, silo, data_path, option or [])
    seed = own_seed if seed is None else seed
    wrong = 0
    for finding in checks.look(task, path, options, lr=lr, batch_size=batch_size, local_epochs=local_epochs, seed=seed):
        wrong += finding.kind == "wrong"
        _say(f"{_MARKS[finding.kind]} {escape(finding.what)}")
    if wrong:
        _say(f"{wrong} wrong: the task cannot join a federation yet{', no model is written' if save_model else ''}")
        raise typer.Exit(1)
    if save_model is not None:
        checks.save_model(save_model, task, path, options, seed)
        _say(f"initial model, for the server: {escape(str(save_model))}")


def _asked(
    reference: str, silo: Path | None, data_path: str, option: Sequence[str]
) -> tuple[str, str, dict[str, str | int | float | bool], int]:
    """Task, data path, options and seed, from the command line or from silo.yaml; never a mixture."""
    from fedlaw_flwr.config.settings import parsed
    from fedlaw_flwr.records.task import is_silo_task
    from fedlaw_flwr.silo.config import SiloConfig

    if silo is not None:
        if reference or data_path or option:
            raise InputError("--silo takes task, data-path and options from the file: name them there, or leave it out")
        config = SiloConfig.read(silo)
        if not is_silo_task(config.task):
            raise InputError(
                f"{silo}: task={config.task!r} is a share of a public data set, nothing of this silo's own"
            )
        return config.task, config.data_path, dict(config.options), config.seed
    if not reference:
        raise InputError("which task? Name tabular, sql, image_folder, package.module:name, or --silo silo.yaml")
    options = parsed(option)
    strange = [name for name, value in options.items() if not isinstance(value, str | int | float | bool)]
    if strange:
        raise InputError(f"--option {strange[0]}={options[strange[0]]!r}: text, a number, true or false is expected")
    return reference, data_path, options, 0


def _say(text: str) -> None:
    _console.print(text, soft_wrap=True, highlight=False)
