"""The `fedlaw` command: demo, run and list, and the commands of the modules beside this one."""

import json
import logging
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedlaw_flwr.cli import check as check_command
from fedlaw_flwr.cli import deploy as commands
from fedlaw_flwr.cli import ledger as ledger_commands
from fedlaw_flwr.cli import new as scaffold_command
from fedlaw_flwr.cli import runs as run_commands
from fedlaw_flwr.cli import schema as schema_commands
from fedlaw_flwr.cli import verdict as verdict_commands
from fedlaw_flwr.cli.conformance import conformance
from fedlaw_flwr.cli.grid import grid
from fedlaw_flwr.cli.settings_help import SettingsCommand
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.protocol.text import single_line

app = typer.Typer(
    help="FedLAW on Flower: Byzantine-robust federated learning with learnable aggregation weights.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(commands.deploy, name="deploy")
app.add_typer(ledger_commands.ledger, name="ledger")
app.add_typer(schema_commands.schema, name="schema")
app.add_typer(scaffold_command.new, name="new")
for command in (
    check_command.check,
    conformance,
    commands.join,
    commands.preflight,
    commands.silo,
    commands.metrics,
    grid,
    run_commands.report,
    run_commands.watch,
    run_commands.runs,
    run_commands.compare,
    run_commands.figures,
    run_commands.export,
    verdict_commands.verdict,
):
    app.command()(command)
_console = Console()
_verbose = False
_LAUNCH = "launch.json"  # in a run folder: how `fedlaw run` computes it
_INTERNAL = 70  # EX_SOFTWARE of BSD's sysexits.h

# The demo: scikit-learn's digits over 20 silos. Rounds and step were chosen on the validation split.
_DEMO: dict[str, Any] = {"task": "digits", "num-silos": 20, "num-rounds": 20, "weight-rounds": 10, "seed": 0}
_EASY: dict[str, Any] = {"attack": "inverse_gradient", "byzantine": 0.2, "max-byzantine": 0.2, "q": 0.6}
_HARD: dict[str, Any] = {"attack": "label_flipping", "byzantine": 0.4, "max-byzantine": 0.4, "q": 0.9}


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"fedlaw-flwr {version('fedlaw-flwr')} (flwr {version('flwr')}, Python {sys.version.split()[0]})")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the full traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the release and that of Flower."),
    ] = False,
) -> None:
    global _verbose
    _verbose = verbose


@app.command()
def demo(
    hard: Annotated[
        bool, typer.Option("--hard", help="The case where published FedLAW loses at this size: label flipping.")
    ] = False,
    runs: Annotated[Path, typer.Option(help="Where the run folders go.")] = Path("runs"),
) -> None:
    """FedLAW, then FedAvg, on the same 20 silos and seed, through `flwr run`; some of the silos are hostile.

    The hard case is run by FedLAW with peer review as well.
    """
    from fedlaw_flwr.config.settings import Settings

    methods = [{"strategy": "fedlaw"}, *([{"variant": "review"}] if hard else []), {"strategy": "fedavg"}]
    chosen = [Settings.read({**_DEMO, **(_HARD if hard else _EASY), **method}) for method in methods]
    first = chosen[0]
    count = len(first.attack_plan().attackers)
    _console.print(
        f"[bold]{first.num_silos} silos train one model on handwritten digits; {count} of them "
        f"are hostile ({first.attack}).[/]\nNobody tells the server which. First FedLAW, "
        f"{'then FedLAW with peer review, ' * hard}then plain averaging."
    )
    if hard:
        _console.print("This is the hard case: at this size, published FedLAW loses here. See README.md.")
    _run_all(chosen, runs, f"{count} of {first.num_silos} silos hostile: {first.attack}, q = {first.q}")


@app.command(cls=SettingsCommand)
def run(
    settings: Annotated[list[str] | None, typer.Argument(help="name=value, as in flwr's --run-config.")] = None,
    engine: Annotated[
        str, typer.Option(help="ray: `flwr run`; in-process: the same apps, one after another; batched: all at once.")
    ] = "ray",
    silos_per_batch: Annotated[
        int, typer.Option(min=1, help="batched: how many silos train together; so many models lie in memory.")
    ] = 64,
    runs: Annotated[Path, typer.Option(help="Where the run folder goes.")] = Path("runs"),
) -> None:
    """One federated run with these settings, e.g. `fedlaw run task=breast_cancer attack=label_flipping q=0.9`."""
    from fedlaw_flwr.apps.experiment import warnings_of
    from fedlaw_flwr.config.settings import Settings, parsed, renamed, without_effect

    values = parsed(settings or [])
    for sentence in renamed(values):
        _console.print(f"[yellow]{escape(sentence)}[/]", soft_wrap=True, highlight=False)
    chosen = Settings.read(values)
    for sentence in without_effect(values):
        if sentence not in warnings_of(chosen):  # those come with the run's events
            _console.print(f"[yellow]{escape(sentence)}[/]", soft_wrap=True, highlight=False)
    _run_all([chosen], runs, f"{chosen.task}, attack {chosen.attack}", engine, silos_per_batch)


@app.command(cls=SettingsCommand)
def resume(
    folder: Annotated[Path, typer.Argument(help="The folder of a run that `fedlaw run` began.", metavar="RUN")],
    settings: Annotated[list[str] | None, typer.Argument(help="name=value, with --changed.")] = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="The settings given are meant to differ from those it began with.")
    ] = False,
) -> None:
    """Goes on with a run whose process ended before it did, from its last checkpoint; the result is that of one run."""
    from fedlaw_flwr.checkpoints.resuming import settings_of_run
    from fedlaw_flwr.config.settings import Settings, parsed
    from fedlaw_flwr.ledger.keys import ServerKey

    folder = folder.resolve()
    given = parsed(settings or [])
    key = ServerKey.of(str(given.get("server-key", _server_key(folder))))
    values = {**settings_of_run(folder, key), **given}
    launched = _launched(folder)
    own = {"run-dir": str(folder), "resume": folder.name, "resume-changed": changed}
    chosen = Settings.read({name.replace("_", "-"): value for name, value in values.items()} | own)
    _run_all([chosen], folder.parent, f"{chosen.task}, attack {chosen.attack}", **launched)


@app.command(name="list")
def list_names() -> None:
    """The strategies, ways to learn weights, attacks and tasks there are, one line and the source each."""
    from fedlaw_flwr.attacks import ATTACKS, load_attack
    from fedlaw_flwr.learners import LEARNERS, load_learner
    from fedlaw_flwr.rules import RULES
    from fedlaw_flwr.tasks import TASKS

    fedlaw = ("fedlaw", "learned weights on a sparse capped simplex, two exchanges a round", "ICLR 2026, Algorithm 2")
    _print_list("strategy", [fedlaw, *((name, rule.summary, rule.source) for name, rule in RULES.items())])
    learners = [(name, load_learner(name)) for name in LEARNERS]
    _print_list("variant of fedlaw", [(name, learner.summary, learner.source) for name, learner in learners])
    attacks = [load_attack(name) for name in ATTACKS]
    _print_list("attack", [(attack.name, attack.summary, attack.source) for attack in attacks])
    _print_list("task", [(name, entry.summary, "") for name, entry in TASKS.items()])


def _run_all(chosen: Sequence[Any], runs: Path, title: str, engine: str = "ray", silos_per_batch: int = 64) -> None:
    """Runs these settings one after another, live on the console, and prints the table and the folders."""
    from functools import partial

    from fedlaw_flwr.apps.byzantine.batched import SimulatedSilos
    from fedlaw_flwr.apps.byzantine.simulated import app as client
    from fedlaw_flwr.apps.experiment import NOT_OMNISCIENT
    from fedlaw_flwr.events.folder import EVENTS, fresh_folder
    from fedlaw_flwr.events.record import Run
    from fedlaw_flwr.events.verdict import verdict
    from fedlaw_flwr.reporting.figures import run_labels
    from fedlaw_flwr.reporting.report import write_report
    from fedlaw_flwr.reporting.terminal import LiveRun, verdict_table
    from fedlaw_flwr.simulation.flwr_run import simulate
    from fedlaw_flwr.simulation.in_process import run_batched, run_in_process
    from fedlaw_flwr.tasks import OWN

    engines: dict[str, Callable[..., None]] = {
        "ray": simulate,
        "in-process": partial(run_in_process, client),
        "batched": partial(run_batched, SimulatedSilos, silos_per_batch=silos_per_batch),
    }
    if engine not in engines:
        raise InputError(f"engine={engine!r}: allowed are {', '.join(engines)}")
    if any(settings.task == OWN for settings in chosen):
        raise InputError("task='own': a simulation has no silos with data of their own; see `fedlaw deploy`")
    if engine != "batched" and any(settings.knowledge == "omniscient" for settings in chosen):
        raise InputError(NOT_OMNISCIENT)
    if not _verbose:  # what Flower's log would say of this process is on the screen already, from the events
        logging.getLogger("flwr").setLevel(logging.ERROR)
    folders = []
    for settings in chosen:
        folder = Path(settings.run_dir) if settings.run_dir else fresh_folder(runs, settings)
        if not settings.resume and not (folder / EVENTS).exists():
            _note_launch(folder, engine, silos_per_batch)
        with LiveRun(_console, settings.strategy, settings.num_rounds) as live:
            engines[engine](settings, folder, live.show)
        folders.append(folder)
    _console.print()
    labels = run_labels([one.as_config() for one in chosen])
    _console.print(verdict_table([verdict(Run.read(folder)) for folder in folders], title, labels))
    for folder in folders:
        try:
            report = f"report: {write_report(folder)}"
        except ModuleNotFoundError as error:  # the run is done all the same
            report = f"no report: {error}"
        _console.print(f"run folder: {folder}  {escape(report)}", soft_wrap=True, highlight=False)
    if len(folders) > 1 and find_spec("jinja2"):
        page = write_report(folders[0], *folders[1:])
        _console.print(f"all of them on one page: {escape(str(page))}", soft_wrap=True, highlight=False)


def _note_launch(folder: Path, engine: str, silos_per_batch: int) -> None:
    """Notes how a run is computed, which its settings do not say: with another engine the last bits are others."""
    from fedlaw_flwr.core.durable import write_whole

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": 1, "engine": engine, "silos-per-batch": silos_per_batch})
    write_whole(folder / _LAUNCH, f"{text}\n".encode())


def _server_key(folder: Path) -> str:
    """The file of the server's key as the run named it; "" where it named none."""
    from fedlaw_flwr.events.folder import SETTINGS

    path = folder / SETTINGS
    return str(json.loads(path.read_text()).get("server-key", "")) if path.exists() else ""


def _launched(folder: Path) -> dict[str, Any]:
    """How this run is computed.

    Raises:
        InputError: If `fedlaw run` did not begin it; the text says what resumes it.
    """
    if not (folder / _LAUNCH).exists():
        name = folder.name
        raise InputError(
            f"{folder}: `fedlaw run` did not begin this run ({_LAUNCH} is missing); what began it resumes it: "
            f"`flwr run . --run-config 'resume=\"{name}\"'`, `fedlaw deploy run FEDERATION.YAML resume={name}`, or "
            "start(..., resume=True) in Python"
        )
    said = json.loads((folder / _LAUNCH).read_text(encoding="utf-8"))
    return {"engine": str(said["engine"]), "silos_per_batch": int(said["silos-per-batch"])}


def _print_list(kind: str, rows: Sequence[tuple[str, str, str]]) -> None:
    table = Table(kind, "what it is", "source", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    _console.print(table)
    _console.print()


def main() -> None:
    """The console script.

    The exit code says what went wrong. 2: a person's mistake. 1: a failed run. 70: a fault of the program itself. The
    first two are one sentence each, and so is the third, with where it happened and a word on what to report.
    """
    from fedlaw_flwr.core.errors import sentence_of
    from fedlaw_flwr.core.extras import what_to_install
    from fedlaw_flwr.deploy.control import ControlError
    from fedlaw_flwr.events.folder import RunFailed

    # A cancelled job or a closed terminal must end what was started as Ctrl-C does: through every `finally`.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, frame: sys.exit(128 + received))
    try:
        app()
    except (RunFailed, ControlError, TimeoutError) as error:
        _fail(error, 1, str(error))
    except ModuleNotFoundError as error:
        missing = what_to_install(error)
        if missing == str(error) and error.name:  # no library that an extra brings
            _report(error)
        _fail(error, 2, missing)
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            _report(error)
        _fail(error, 2, sentence)


def _fail(error: Exception, code: int, text: str) -> NoReturn:
    console = Console(stderr=True)
    if _verbose:
        console.print_exception()
    console.print(f"[red]error:[/] {escape(text)}", soft_wrap=True, highlight=False)
    raise SystemExit(code)


def _report(error: Exception) -> NoReturn:
    """A fault of the program: what was raised and where, and what to do about it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    said = single_line(error) or "no reason given"
    where = f"{Path(last.filename).name}, line {last.lineno}"
    hint = "" if _verbose else "; `fedlaw --verbose ...` shows the traceback"
    _fail(
        error,
        _INTERNAL,
        f"internal error, {type(error).__name__}: {said} ({where}). This is a fault of fedlaw and not of what you gave "
        f"it{hint}. Please report it to whoever maintains fedlaw, with the command and the traceback",
    )
