"""`fedlaw conformance`: where a client departs from docs/reference/protocol.md, a line for each finding."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from fedlaw_flwr.cli.import_path import look_here_too
from fedlaw_flwr.core.errors import AlreadyThere, InputError, from_their_code

if TYPE_CHECKING:
    from flwr.app import ArrayRecord
    from flwr.clientapp import ClientApp

    from fedlaw_flwr.conformance.probe import Probe

_console = Console()
_MARKS = {"ok": "[green]ok   [/]", "wrong": "[red]WRONG[/]", "note": "[yellow]note [/]"}


def conformance(
    client: Annotated[
        str, typer.Argument(help="module:app, a Flower ClientApp that can be imported here.", metavar="[CLIENT]")
    ] = "",
    model: Annotated[
        Path | None,
        typer.Option(help="The initial model, safetensors; else what initial_model() of the client's module gives."),
    ] = None,
    silo: Annotated[
        Path | None, typer.Option(help="Client and node config from this silo.yaml.", metavar="SILO.YAML")
    ] = None,
    node_config: Annotated[
        list[str] | None, typer.Option(help="key=value, as the silo's node config has it; may be repeated.")
    ] = None,
    run_config: Annotated[
        list[str] | None, typer.Option(help="key=value, as the run configuration has it; may be repeated.")
    ] = None,
    lr: Annotated[float, typer.Option(help="The run's step.")] = 0.1,
    local_epochs: Annotated[int, typer.Option(min=1, help="The run's passes over the data in an exchange.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="The run's batch size.")] = 16,
    loss_key: Annotated[str, typer.Option(help="Under which metric the loss is.")] = "loss",
    any_loss: Annotated[bool, typer.Option("--any-loss", help="Losses below 0 are right.")] = False,
    seconds: Annotated[float, typer.Option(help="After how long a message is given up.")] = 600.0,
    save_model: Annotated[
        Path | None,
        typer.Option(help="If nothing is wrong, write the model and the reply to query here, for the server."),
    ] = None,
) -> None:
    """Drives a client through both exchanges with good and bad messages; exit code 1 if anything is wrong."""
    from fedlaw_flwr.conformance.examine import examine
    from fedlaw_flwr.conformance.probe import Probe, Terms

    look_here_too()
    for name, value in (("lr", lr), ("seconds", seconds)):
        if not 0 < value < float("inf"):
            raise InputError(f"--{name} {value:g}: a finite number above 0 is expected")
    if save_model is not None and save_model.exists():
        raise AlreadyThere(f"--save-model {save_model}: it is there already; name another, or move it away")
    terms = Terms(lr, local_epochs, batch_size, loss_key, None if any_loss else 0.0, seconds=seconds)
    reference, node, run = _asked(client, silo, node_config or [], run_config or [])
    app, proposed = _loaded(reference, node)
    probe = Probe(app, _read(model) if model else proposed(), terms, node, run)
    wrong = 0
    for finding in examine(probe):
        wrong += finding.kind == "wrong"
        name = f"{finding.check}: " if finding.check else ""
        _say(f"{_MARKS[finding.kind]} {escape(name + finding.what)}")
    if wrong:
        _say(f"{wrong} wrong: {escape(reference)} departs from the protocol")
        raise typer.Exit(1)
    _say(f"{escape(reference)} keeps the protocol")
    if save_model is not None:
        _save(save_model, probe)
        _say(f"initial model, for the server: {escape(str(save_model))}")


def _asked(
    client: str, silo: Path | None, node_config: Sequence[str], run_config: Sequence[str]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The client's reference, its node config and the run configuration; what the command line says goes first."""
    from fedlaw_flwr.config.settings import parsed
    from fedlaw_flwr.silo.config import SiloConfig

    node, run = parsed(node_config), parsed(run_config)
    if silo is not None:
        config = SiloConfig.read(silo)
        return client or config.app, {**config.node_config(), **node}, run
    if not client:
        raise InputError("which client? Name it, module:app, or a silo.yaml that does (--silo)")
    return client, node, run


def _loaded(reference: str, node_config: dict[str, Any]) -> tuple["ClientApp", Callable[[], "ArrayRecord"]]:
    """The client, prepared as the silo's own process prepares it, and the model that its module proposes."""
    from importlib import import_module

    from fedlaw_flwr.silo.serve import load_client

    app, module = load_client(reference), import_module(reference.partition(":")[0])
    if hasattr(module, "prepare"):
        with from_their_code():
            module.prepare(node_config)

    def proposed() -> "ArrayRecord":
        if not hasattr(module, "initial_model"):
            raise InputError(
                f"which model? Name its safetensors file (--model), or let {module.__name__} have a function "
                "initial_model(node_config) that returns its arrays by key"
            )
        with from_their_code():
            return _record(module.initial_model(node_config))

    return app, proposed


def _read(path: Path) -> "ArrayRecord":
    """The arrays of a safetensors file. Raises ValueError."""
    from fedlaw_flwr.tasks.initial import load_initial

    return _record(load_initial(path).arrays)


def _record(arrays: Mapping[str, Any]) -> "ArrayRecord":
    import numpy as np
    from flwr.app import Array, ArrayRecord

    return ArrayRecord({key: Array(np.asarray(value)) for key, value in arrays.items()})


def _save(path: Path, probe: "Probe") -> None:
    """Writes the model and what the client says that silos must agree on, which may be nothing."""
    from flwr.app import RecordDict

    from fedlaw_flwr.protocol import gate
    from fedlaw_flwr.tasks.initial import save_initial

    said = probe.query().content or RecordDict()
    tasks = [str(record["task"]) for record in said.config_records.values() if "task" in record]
    arrays = {key: array.numpy() for key, array in probe.model.arrays().items()}
    save_initial(path, arrays, tasks[0] if tasks else "", gate.read_description(said) or {})


def _say(text: str) -> None:
    _console.print(text, soft_wrap=True, highlight=False)
