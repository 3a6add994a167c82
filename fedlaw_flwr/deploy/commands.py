"""`fedlaw deploy ...`, `fedlaw join`, `fedlaw preflight`, `fedlaw silo`, `fedlaw metrics`: the operators' commands."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from fedlaw_flwr.deploy.federation import Federation
    from fedlaw_flwr.deploy.folder import FederationFolder
    from fedlaw_flwr.deploy.local import LocalFederation

deploy = typer.Typer(help="A federation of real silos from one federation.yaml.", no_args_is_help=True)
local = typer.Typer(help="The same federation as processes on this machine.", no_args_is_help=True)
deploy.add_typer(local, name="local")
containers = typer.Typer(help="The same federation as containers on this machine.", no_args_is_help=True)
deploy.add_typer(containers, name="containers")
_console = Console()

File = Annotated[Path, typer.Argument(help="The federation's YAML file.", metavar="FEDERATION.YAML")]
SiloName = Annotated[str, typer.Argument(help="The silo's name in federation.yaml.", metavar="SILO")]


@deploy.command()
def init(
    file: File,
    drill: Annotated[
        bool, typer.Option("--drill", help="Make every silo's key here too. For drills: one machine, no secrets.")
    ] = False,
) -> None:
    """Makes the CA and the server's certificate, and renders; never overwrites what exists."""
    from fedlaw_flwr.deploy.preparation import init as prepare
    from fedlaw_flwr.deploy.preparation import render as make

    federation, folder = _read(file)
    done = prepare(federation, folder, drill)
    for path in done.made:
        _say(f"made  {path}")
    for path in done.kept:
        _say(f"kept  {path}")
    for path in make(federation, folder):
        _say(f"wrote {path}")
    if drill:
        _say("[yellow]A drill: every silo's private key lies in this folder, so whoever reads it can be any silo.[/]")
    else:
        waiting = [silo.name for silo in federation.silos if not folder.public_key(silo.name).exists()]
        if waiting:
            _say(f"Waiting for the keys of {', '.join(waiting)}: each runs `fedlaw join NAME` on its own machine")
            _say("and sends NAME.pub, which `fedlaw deploy accept` takes.")


@deploy.command()
def accept(file: File, silo: SiloName, key: Annotated[Path, typer.Argument(help="The .pub file it sent.")]) -> None:
    """Takes the public key a silo sent; compare its fingerprint with the silo's operator by telephone."""
    from fedlaw_flwr.deploy.certificates import fingerprint
    from fedlaw_flwr.deploy.preparation import accept as take

    federation, folder = _read(file)
    path = take(federation, folder, silo, key)
    _say(f"{silo}: {fingerprint(path)}  {path}")


@deploy.command()
def render(file: File) -> None:
    """Writes the package, every silo.yaml, the compose file and the proxy's configuration anew from the YAML file."""
    from fedlaw_flwr.deploy.preparation import render as make

    changed = make(*_read(file))
    for path in changed:
        _say(f"wrote {path}")
    if not changed:
        _say("nothing changed")


@deploy.command()
def rotate(
    file: File,
    silo: SiloName,
    key: Annotated[Path | None, typer.Argument(help="The new .pub file it sent; none in a drill.")] = None,
) -> None:
    """Replaces one silo's key; the old one is kept until it is unregistered, and told."""
    from fedlaw_flwr.deploy.certificates import fingerprint
    from fedlaw_flwr.deploy.preparation import rotate as replace

    federation, folder = _read(file)
    old = replace(federation, folder, silo, key)
    _say(f"{silo}: {fingerprint(folder.public_key(silo))} replaces {fingerprint(old)}")
    _say(f"On the server: `fedlaw deploy reregister {file} {silo}`, then restart that silo's node.")


@deploy.command()
def reregister(file: File, silo: SiloName) -> None:
    """Takes a silo's old key off the running local SuperLink and registers the one in the folder."""
    federation, folder = _read(file)
    control = _local(federation, folder).control()
    control.unregister(silo)
    control.register({silo: str(folder.public_key(silo))})
    _say(f"{silo} is registered with its new key; whoever holds the old one is refused")


@deploy.command()
def bundle(file: File, silo: SiloName) -> None:
    """The archive to hand to one institution: CA certificate, its compose file, instructions; no key, no other silo."""
    from fedlaw_flwr.deploy.bundle import write_bundle

    _say(str(write_bundle(*_read(file), silo)))


@deploy.command()
def run(
    file: File,
    settings: Annotated[list[str] | None, typer.Argument(help="name=value, changed for this run alone.")] = None,
) -> None:
    """Submits one run to the local federation, follows it, and prints the verdict."""
    from fedlaw_flwr.settings import parsed

    federation, folder = _read(file)
    changed = federation.changed(parsed(settings or []))
    follow_run(federation, changed, lambda show: _local(federation, folder).run(show, changed))


@deploy.command()
def prune(file: File) -> None:
    """Removes run folders older than `retention-days`."""
    from fedlaw_flwr.deploy.retention import prune as remove

    federation, folder = _read(file)
    for path in remove(_local(federation, folder).runs, federation.retention_days):
        _say(f"removed {path}")


@local.command()
def up(file: File) -> None:
    """SuperLink with TLS and node keys, and three processes a silo; returns when every silo is online."""
    federation, folder = _read(file)
    processes = _local(federation, folder)
    processes.up()
    _say(f"{len(federation.silos)} silos are online at 127.0.0.1:{federation.superlink.port}; logs in {processes.path}")
    _say(f"`fedlaw deploy run {file}` runs; `fedlaw deploy local down {file}` ends every process.")


@local.command()
def down(file: File) -> None:
    """Ends every process; run folders, logs, keys and the SuperLink's database stay."""
    _local(*_read(file)).down()


@local.command()
def status(file: File) -> None:
    """Which processes run, and which silos the SuperLink sees."""
    from fedlaw_flwr.deploy.control import ControlError

    processes = _local(*_read(file))
    try:
        seen = processes.control().silos()
    except ControlError as error:
        seen = {}
        _say(f"[yellow]the SuperLink does not answer: {error}[/]")
    table = Table("process", "pid", "the SuperLink sees it as", box=None, padding=(0, 2, 0, 0))
    for name in processes.names:
        pid = processes.pid(name)
        node = seen.get(name.removesuffix("-node"), "-") if name.endswith("-node") else ""
        table.add_row(name, str(pid) if pid else "[red]not running[/]", node)
    _console.print(table)


@local.command()
def logs(
    file: File,
    process: Annotated[str, typer.Argument(help="superlink, server-app, SILO-node, SILO-app or SILO-data.")],
    lines: Annotated[int, typer.Option(help="How many of the last lines.")] = 40,
) -> None:
    """The end of one process's log."""
    processes = _local(*_read(file))
    if process not in processes.names:
        raise ValueError(f"process {process!r}: there are {', '.join(processes.names)}")
    path = processes.log(process)
    text = path.read_text(errors="replace") if path.exists() else ""
    print("\n".join(text.splitlines()[-lines:]))


@containers.command()
def build(
    file: File,
    arguments: Annotated[list[str] | None, typer.Argument(help="The Dockerfiles' arguments: TORCH_INDEX=…")] = None,
) -> None:
    """Builds the server's and the silos' images from this checkout."""
    from fedlaw_flwr.deploy.containers import Containers

    pairs = [argument.partition("=") for argument in arguments or []]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ValueError(f"{wrong[0]!r}: an argument is written NAME=value")
    Containers(*_read(file)).build({name: value for name, _, value in pairs})


@containers.command(name="up")
def containers_up(file: File) -> None:
    """Starts server and silos by docker-compose, registers every silo's key, returns when all are online."""
    from fedlaw_flwr.deploy.containers import Containers

    federation, folder = _read(file)
    Containers(federation, folder).up()
    _say(f"{len(federation.silos)} silos are online; docker-compose logs tells the rest")


@containers.command(name="run")
def containers_run(
    file: File,
    settings: Annotated[list[str] | None, typer.Argument(help="name=value, changed for this run alone.")] = None,
) -> None:
    """Submits one run to the containers, follows it, and prints the verdict."""
    from fedlaw_flwr.deploy.containers import Containers
    from fedlaw_flwr.settings import parsed

    federation, folder = _read(file)
    changed = federation.changed(parsed(settings or []))
    follow_run(federation, changed, lambda show: Containers(federation, folder).run(show, changed))


@containers.command(name="down")
def containers_down(
    file: File,
    volumes: Annotated[bool, typer.Option("--volumes", help="The SuperLink's database and runs too.")] = False,
) -> None:
    """Takes containers and networks away; the database and the run folders stay unless --volumes."""
    from fedlaw_flwr.deploy.containers import Containers

    Containers(*_read(file)).down(volumes)


def join(
    silo: Annotated[str, typer.Argument(help="The name the federation knows this silo by.", metavar="SILO")],
    folder: Annotated[Path, typer.Option(help="Where the keys go.")] = Path(),
) -> None:
    """On a silo's own machine: makes its key pair. The private key stays there; the .pub file is what to send."""
    from fedlaw_flwr.deploy.certificates import fingerprint
    from fedlaw_flwr.deploy.preparation import join as make

    private, public = make(silo, folder)
    _say(f"private key, never to leave this machine: {private}")
    _say(f"send this to the federation's operator:   {public}")
    _say(f"and read them this over the telephone:    {fingerprint(public)}")


def preflight(
    file: File,
    offline: Annotated[bool, typer.Option("--offline", help="Do not try to reach the server.")] = False,
) -> None:
    """Looks at what can be wrong before a run: settings, certificates, keys, ports, data paths, versions, reach."""
    from fedlaw_flwr.deploy.preflight import inspect

    findings = inspect(*_read(file), online=not offline)
    for finding in findings:
        _console.print(f"{'[green]ok  [/]' if finding.ok else '[red]WRONG[/]'} {finding.what}", highlight=False)
    wrong = sum(not finding.ok for finding in findings)
    if wrong:
        raise typer.Exit(1)


def silo(
    file: Annotated[Path, typer.Argument(help="This silo's silo.yaml.", metavar="SILO.YAML")],
    socket: Annotated[str, typer.Option(help="Where to listen; instead of the file's.")] = "",
    state: Annotated[str, typer.Option(help="Where clients' state goes; instead of the file's.")] = "",
) -> None:
    """The institution's own process: holds the data and answers what Flower ships to this silo. Runs until ended."""
    from fedlaw_flwr.silo.config import SiloConfig
    from fedlaw_flwr.silo.serve import SiloProcess

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    changed = {key: value for key, value in {"socket": socket, "state": state}.items() if value}
    config = SiloConfig.read(file).model_copy(update=changed)
    config.check_version()
    SiloProcess(config).run()


def metrics(
    runs: Annotated[Path, typer.Argument(help="The folder of run folders.")],
    port: Annotated[int, typer.Option(help="Where Prometheus fetches them.")] = 9100,
    host: Annotated[str, typer.Option(help="On which address.")] = "127.0.0.1",
) -> None:
    """Serves the figures of the latest run for Prometheus: rounds, weights, quarantines, seconds, bytes."""
    from fedlaw_flwr.runs.metrics import serve

    serve(runs, host, port)


def follow_run(
    federation: "Federation", changed: dict[str, Any], go: Callable[[Callable[[dict[str, object]], None]], Path]
) -> None:
    """Shows a run live and prints its verdict, each silo's last weight and where its folder is."""
    from fedlaw_flwr.runs.folder import read_events
    from fedlaw_flwr.runs.screen import LiveRun, verdict_table
    from fedlaw_flwr.runs.verdict import verdict, weights_of

    settings = federation.settings(changed)
    with LiveRun(_console, settings.strategy, settings.num_rounds) as live:
        folder = go(live.show)
    events = list(read_events(folder))
    _console.print()
    _console.print(verdict_table([verdict(events)], f"{federation.name}: {len(federation.silos)} silos"))
    last = [weights_of(event) for event in events if event["kind"] == "round" and event.get("weights")]
    for name, weight in sorted((last[-1] if last else {}).items()):
        _say(f"  {name}: weight {weight:.3f}{' (a drill)' if name in federation.drills else ''}")
    _say(f"run folder: {folder}")


def _read(file: Path) -> "tuple[Federation, FederationFolder]":
    from fedlaw_flwr.deploy.federation import Federation
    from fedlaw_flwr.deploy.folder import FederationFolder

    federation = Federation.read(file)
    return federation, FederationFolder.beside(file, federation.name)


def _local(federation: "Federation", folder: "FederationFolder") -> "LocalFederation":
    from fedlaw_flwr.deploy.local import LocalFederation

    return LocalFederation(federation, folder)


def _say(text: str) -> None:
    _console.print(text, soft_wrap=True, highlight=False)
