"""`fedlaw deploy ...`, `fedlaw join`, `fedlaw preflight`, `fedlaw silo`, `fedlaw metrics`: the operators' commands."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from fedlaw_flwr.cli.console import Archive, Changes, File, Port, Serve, ServedReport, SiloName, console, follow_run
from fedlaw_flwr.cli.console import read as _read
from fedlaw_flwr.cli.console import say as _say
from fedlaw_flwr.cli.containers import containers
from fedlaw_flwr.cli.import_path import look_here_too
from fedlaw_flwr.core.errors import InputError

if TYPE_CHECKING:
    from fedlaw_flwr.deploy.federation import Federation
    from fedlaw_flwr.deploy.folder import FederationFolder
    from fedlaw_flwr.deploy.local import LocalFederation

deploy = typer.Typer(help="A federation of real silos from one federation.yaml.", no_args_is_help=True)
local = typer.Typer(help="The same federation as processes on this machine.", no_args_is_help=True)
deploy.add_typer(local, name="local")
deploy.add_typer(containers, name="containers")


@deploy.command()
def init(
    file: File,
    drill: Annotated[
        bool, typer.Option("--drill", help="Make every silo's key here too. For drills: one machine, no secrets.")
    ] = False,
) -> None:
    """Makes the CA and the server's certificate, and renders; never overwrites what exists."""
    from fedlaw_flwr.deploy.certificates import check_certificates
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
    for finding in check_certificates(federation, folder):
        if finding.kind == "wrong":
            _say(f"[yellow]{escape(finding.what)}[/]")
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
    """Replaces one silo's key; the old one is kept until `reregister` takes it off the server and deletes it."""
    from fedlaw_flwr.deploy.certificates import fingerprint
    from fedlaw_flwr.deploy.preparation import rotate as replace

    federation, folder = _read(file)
    old = replace(federation, folder, silo, key)
    _say(f"{silo}: {fingerprint(folder.public_key(silo))} replaces {fingerprint(old)}")
    _say("The server takes the old one until `reregister`:")
    _say(f"  fedlaw deploy containers reregister {file} {silo}")
    _say(f"  fedlaw deploy reregister {file} {silo}    # without containers")


@deploy.command()
def reregister(file: File, silo: SiloName) -> None:
    """After `rotate`: takes the old key off the local SuperLink, registers the new one, deletes the old one here."""
    from fedlaw_flwr.deploy.preparation import forget_replaced

    federation, folder = _read(file)
    control = _local(federation, folder).control()
    control.unregister(silo)
    control.register({silo: str(folder.public_key(silo))})
    forget_replaced(folder, silo)
    _say(f"{silo} is registered with its new key; whoever holds the old one is refused")
    _say(f"`fedlaw deploy local restart {file} {silo}` starts its node with it.")


@deploy.command()
def unregister(file: File, silo: SiloName) -> None:
    """For a silo that leaves: takes its key off the local SuperLink and deletes it here."""
    from fedlaw_flwr.deploy.preparation import forget

    federation, folder = _read(file)
    _local(federation, folder).control().unregister(silo)
    forget(folder, silo)
    _say(f"{silo} is off the server; take it out of {file} too, then `fedlaw deploy render {file}`")


@deploy.command()
def pardon(file: File, silo: SiloName) -> None:
    """Lets a silo that sits out back into the run that goes on: it is asked again from the next round on."""
    from fedlaw_flwr.events.orders import PARDON

    _order(file, PARDON, silo)
    _say(f"{silo} is asked again from the next round on")


@deploy.command()
def remove(file: File, silo: SiloName) -> None:
    """Takes a silo out of the run that goes on: n, and b where it is a fraction, are smaller from the next round on."""
    from fedlaw_flwr.events.orders import REMOVE

    _order(file, REMOVE, silo)
    _say(f"{silo} is out of this run from the next round on; `fedlaw deploy unregister` takes its key off the server")


@deploy.command()
def bundle(file: File, silo: SiloName) -> None:
    """The archive to hand to one institution: CA certificate, its compose file, instructions; no key, no other silo."""
    from fedlaw_flwr.deploy.bundle import write_bundle

    _say(str(write_bundle(*_read(file), silo)))


@deploy.command()
def package_digest(
    app: Annotated[
        Path | None,
        typer.Argument(help="A .fab file or an app's folder; none: what this fedlaw renders.", metavar="APP"),
    ] = None,
) -> None:
    """Prints the digest by which silos allow a package: the same however and whenever it was packed."""
    from fedlaw_flwr.silo.packages import digest_of, own_digest

    print(own_digest() if app is None else digest_of(app))


@deploy.command()
def rehearse(
    silo: Annotated[Path, typer.Argument(help="The silo.yaml of a tabular silo.", metavar="SILO.YAML")],
    folder: Annotated[Path, typer.Option(help="Where it goes; must not be there yet.")] = Path("rehearsal"),
    silos: Annotated[int, typer.Option(help="How many silos the records are dealt to.")] = 5,
    mislabelled: Annotated[int, typer.Option(help="How many of them have wrong classes, on purpose.")] = 1,
) -> None:
    """An institution alone: deals its records to a federation of silos on this machine, one of them mislabelled."""
    from fedlaw_flwr.deploy.rehearsal import rehearse as deal
    from fedlaw_flwr.silo.config import SiloConfig

    file = deal(SiloConfig.read(silo), folder, silos, mislabelled)
    _say(f"wrote {file}. Now:")
    for command in ("init --drill", "local up", "run", "local down"):
        _say(f"  fedlaw deploy {command} {file}")
    _say(f"{folder} holds copies of your records: remove it when you are done.")


@deploy.command()
def run(file: File, settings: Changes = None, serve: Serve = False, port: Port = 0) -> None:
    """Submits one run to the local federation, follows it, and prints the verdict."""
    from fedlaw_flwr.config.settings import parsed

    federation, folder = _read(file)
    changed = federation.changed(parsed(settings or []))
    processes = _local(federation, folder)
    if processes.pid("superlink"):
        for name in (silo.name for silo in federation.silos if not processes.listens(silo.name)):
            where = processes.log(f"{name}-data")
            _say(
                f"[yellow]{name}'s own process does not listen: it will be silent until it does; its log is {where}[/]"
            )
    with ServedReport(serve, port) as page:
        follow_run(federation, changed, lambda show, begun: processes.run(show, changed, begun), page)


@deploy.command()
def resume(file: File, serve: Serve = False, port: Port = 0) -> None:
    """Goes on with the newest run of the local federation, where its server ended before it did, and follows it."""
    from fedlaw_flwr.deploy.unfinished import needed, unfinished

    federation, folder = _read(file)
    processes = _local(federation, folder)
    changed = {"resume": needed(unfinished(processes.runs))}
    with ServedReport(serve, port) as page:
        follow_run(federation, changed, lambda show, begun: processes.run(show, changed, begun), page)


@deploy.command()
def prune(file: File) -> None:
    """Removes run folders older than `retention-days`."""
    from fedlaw_flwr.deploy.retention import prune as remove

    federation, folder = _read(file)
    for path in remove(_local(federation, folder).runs, federation.retention_days):
        _say(f"removed {path}")


@deploy.command()
def backup(
    file: File, out: Annotated[Path, typer.Argument(help="The .tar.gz to write; it must not be there yet.")]
) -> None:
    """One archive of the local federation, running or not: database, registrations, certificates, keys, run folders."""
    from fedlaw_flwr.deploy.backup import write_backup

    count = write_backup(out, file, _local(*_read(file)).parts())
    _say(f"{count} files in {out}; there are keys among them: keep it as you keep those")


@deploy.command()
def restore(file: File, archive: Archive) -> None:
    """Puts a backup back where a local federation looks for it; nothing that exists is overwritten."""
    from fedlaw_flwr.deploy.backup import read_backup
    from fedlaw_flwr.deploy.preparation import render as make

    federation, folder = _read(file)
    processes = _local(federation, folder)
    if processes.pid("superlink"):
        raise InputError(f"the SuperLink is running: `fedlaw deploy local down {file}` first")
    count = len(read_backup(archive, processes.parts()))
    make(federation, folder)
    _say(f"restored {count} files; `fedlaw deploy local up {file}` starts the federation")


@local.command()
def up(file: File) -> None:
    """SuperLink with TLS and node keys, and three processes a silo; returns when every silo can take part."""
    from fedlaw_flwr.events.folder import RunFailed

    federation, folder = _read(file)
    processes = _local(federation, folder)
    try:
        processes.up(say=_say)
    except (RunFailed, TimeoutError):
        _say(f"What was started runs on: `fedlaw deploy local up {file}` starts the rest, `down` ends it.")
        raise
    _say(f"{len(federation.silos)} silos are online at 127.0.0.1:{federation.superlink.port}; logs in {processes.path}")
    _say(f"`fedlaw deploy run {file}` runs; `fedlaw deploy local down {file}` ends every process.")


@local.command()
def restart(file: File, silo: SiloName) -> None:
    """Ends the three processes of one silo and starts them anew, with the key that is in the folder now."""
    federation, folder = _read(file)
    if not folder.here([silo]):
        raise InputError(f"silo {silo!r}: there is no {folder.private_key(silo)}")
    _local(federation, folder).restart_silo(silo)
    _say(f"{silo} is online and its data are loaded")


@local.command()
def down(file: File) -> None:
    """Ends every process; run folders, logs, keys and the SuperLink's database stay."""
    _local(*_read(file)).down()
    _say("every process of it has ended; run folders, logs and keys stay")


@local.command()
def status(file: File) -> None:
    """Which processes run, and which silos the SuperLink sees."""
    from fedlaw_flwr.deploy.control import ControlError

    processes = _local(*_read(file))
    seen: dict[str, str] = {}
    try:
        if processes.pid("superlink"):
            seen = processes.control().silos()
        else:
            _say(f"[yellow]the federation is down; `fedlaw deploy local up {file}` starts it[/]")
    except ControlError as error:
        _say(f"[yellow]the SuperLink does not answer: {error}[/]")
    table = Table("process", "pid", "the SuperLink sees it as", box=None, padding=(0, 2, 0, 0))
    for name in processes.names:
        pid = processes.pid(name)
        node = seen.get(name.removesuffix("-node"), "-") if name.endswith("-node") else ""
        if pid and name.endswith("-data") and not processes.listens(name.removesuffix("-data")):
            node = "[yellow]does not listen yet: it loads its data[/]"
        table.add_row(name, str(pid) if pid else "[red]not running[/]", node)
    console.print(table)


@local.command()
def logs(
    file: File,
    process: Annotated[str, typer.Argument(help="superlink, server-app, SILO-node, SILO-app or SILO-data.")],
    lines: Annotated[int, typer.Option(help="How many of the last lines.")] = 40,
) -> None:
    """The end of one process's log."""
    processes = _local(*_read(file))
    if process not in processes.names:
        raise InputError(f"process {process!r}: there are {', '.join(processes.names)}")
    path = processes.log(process)
    text = path.read_text(errors="replace") if path.exists() else ""
    print("\n".join(text.splitlines()[-lines:]))


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
    file: Annotated[Path, typer.Argument(help="federation.yaml at the server, silo.yaml at a silo.", metavar="FILE")],
    offline: Annotated[bool, typer.Option("--offline", help="Do not try to reach the server.")] = False,
    server: Annotated[str, typer.Option(help="HOST:PORT, for a silo.yaml with no compose.yml beside it.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")] = False,
) -> None:
    """Looks at what can be wrong before a run, or before a silo joins; exit code 1 if anything is wrong.

    At the server: settings, certificates, keys, ports, data paths, versions, reach. At a silo: its key, the CA's
    certificate, data path, policy, version, reach.
    """
    from fedlaw_flwr.deploy.silo_preflight import inspect_silo, is_silo_file

    if is_silo_file(file):
        findings = inspect_silo(file, server, online=not offline)
    else:
        from fedlaw_flwr.deploy.preflight import inspect

        if server:
            raise InputError("--server is for a silo.yaml: federation.yaml says where the server is")
        findings = inspect(*_read(file), online=not offline)
    marks = {"ok": "[green]ok   [/]", "wrong": "[red]WRONG[/]", "note": "[yellow]note [/]"}
    findings = list(findings)
    if as_json:
        print(json.dumps([{"kind": finding.kind, "what": finding.what} for finding in findings], indent=2))
    for finding in [] if as_json else findings:
        _say(f"{marks[finding.kind]} {escape(finding.what)}")
    if any(finding.kind == "wrong" for finding in findings):
        raise typer.Exit(1)


def silo(
    file: Annotated[Path, typer.Argument(help="This silo's silo.yaml.", metavar="SILO.YAML")],
    socket: Annotated[str, typer.Option(help="Where to listen; instead of the file's.")] = "",
    state: Annotated[str, typer.Option(help="Where clients' state goes; instead of the file's.")] = "",
) -> None:
    """The institution's own process: holds the data and answers what Flower ships to this silo. Runs until ended."""
    from fedlaw_flwr.silo.config import SiloConfig
    from fedlaw_flwr.silo.serve import SiloProcess

    look_here_too()
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
    """Serves the figures of the latest run for Prometheus: rounds, weights, rejected replies, seconds, bytes."""
    from fedlaw_flwr.reporting.prometheus import serve

    serve(runs, host, port)


def _order(file: Path, what: str, silo: str) -> None:
    from fedlaw_flwr.events.orders import Order, give, newest

    federation, folder = _read(file)
    federation.named(silo)
    give(newest(_local(federation, folder).runs), Order(what, silo))


def _local(federation: "Federation", folder: "FederationFolder") -> "LocalFederation":
    from fedlaw_flwr.deploy.local import LocalFederation

    return LocalFederation(federation, folder)
