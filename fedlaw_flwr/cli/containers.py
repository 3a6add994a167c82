"""`fedlaw deploy containers ...`: the server, and the silos whose keys are here, by docker-compose."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fedlaw_flwr.cli.console import (
    Archive,
    Changes,
    File,
    Port,
    Serve,
    ServedReport,
    SiloName,
    console,
    follow_run,
    read,
    say,
    watch_run,
)
from fedlaw_flwr.core.errors import InputError

containers = typer.Typer(help="The same federation as containers on this machine.", no_args_is_help=True)


@containers.command()
def build(
    file: File,
    arguments: Annotated[list[str] | None, typer.Argument(help="The Dockerfiles' arguments: TORCH_INDEX=…")] = None,
) -> None:
    """Builds the server's and the silos' images from this checkout."""
    from fedlaw_flwr.deploy.containers import Containers

    pairs = [argument.partition("=") for argument in arguments or []]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise InputError(f"{wrong[0]!r}: an argument is written NAME=value")
    Containers(*read(file)).build({name: value for name, _, value in pairs})


@containers.command()
def up(file: File) -> None:
    """Starts the server and the silos whose keys are here, registers every key accepted so far; may be given again."""
    from fedlaw_flwr.deploy.containers import Containers

    federation, folder = read(file)
    seen = Containers(federation, folder).up()
    online = [silo.name for silo in federation.silos if seen.get(silo.name) == "online"]
    say(f"{len(online)} of {len(federation.silos)} silos are online; docker-compose logs tells the rest")
    for silo in federation.silos:
        if silo.name not in online:
            say(f"  {silo.name}: {seen.get(silo.name, 'has sent no key that was accepted')}")


@containers.command()
def status(file: File) -> None:
    """How the SuperLink sees each silo."""
    from fedlaw_flwr.deploy.containers import Containers

    federation, folder = read(file)
    seen = Containers(federation, folder).control().silos()
    table = Table("silo", "the SuperLink sees it as", box=None, padding=(0, 2, 0, 0))
    for silo in federation.silos:
        table.add_row(silo.name, seen.get(silo.name, "-"))
    console.print(table)


@containers.command()
def run(file: File, settings: Changes = None, serve: Serve = False, port: Port = 0) -> None:
    """Submits one run to the containers, follows it, and prints the verdict."""
    from fedlaw_flwr.config.settings import parsed
    from fedlaw_flwr.deploy.containers import Containers

    federation, folder = read(file)
    changed = federation.changed(parsed(settings or []))
    ours = Containers(federation, folder)
    with ServedReport(serve, port) as page:
        follow_run(federation, changed, lambda show, begun: ours.run(show, changed, begun), page)


@containers.command()
def watch(
    file: File,
    run: Annotated[str, typer.Argument(help="The run's number; none: the newest.", metavar="RUN")] = "",
    serve: Serve = False,
    port: Port = 0,
) -> None:
    """Follows a run of the containers from another terminal. Ctrl-C ends the watching, not the run."""
    from fedlaw_flwr.deploy.containers import Containers

    federation, folder = read(file)
    ours = Containers(federation, folder)
    known = ours.numbers()
    number = run.removeprefix("run-") or next(iter(known), "")
    if number not in known:
        raise InputError(f"run {number!r}: there are {', '.join(known)}" if known else "no run has begun here yet")
    with (
        tempfile.TemporaryDirectory() as scratch,
        ours.following(number, f"run-{number}", Path(scratch)) as (copy, events),
    ):
        watch_run(copy, events, f"run {number}", serve, port)


@containers.command()
def resume(file: File, serve: Serve = False, port: Port = 0) -> None:
    """Goes on with the newest run of the containers, where its server ended before it did, and follows it."""
    from fedlaw_flwr.deploy.containers import Containers
    from fedlaw_flwr.deploy.unfinished import needed

    federation, folder = read(file)
    ours = Containers(federation, folder)
    changed = {"resume": needed(ours.unfinished())}
    with ServedReport(serve, port) as page:
        follow_run(federation, changed, lambda show, begun: ours.run(show, changed, begun), page)


@containers.command()
def reregister(file: File, silo: SiloName) -> None:
    """After `rotate`: takes a silo's old key off the SuperLink, registers the new one and deletes the old one here."""
    from fedlaw_flwr.deploy.containers import Containers

    federation, folder = read(file)
    ours = Containers(federation, folder)
    ours.reregister(silo)
    say(f"{silo} is registered with its new key; whoever holds the old one is refused")
    if silo not in ours.here:
        say(f"Its operator now puts the new node.key in place: `docker compose restart {silo}-node`")


@containers.command()
def unregister(file: File, silo: SiloName) -> None:
    """For a silo that leaves: takes its key off the SuperLink and deletes it here; its node is refused from then on."""
    from fedlaw_flwr.deploy.containers import Containers
    from fedlaw_flwr.deploy.preparation import forget

    federation, folder = read(file)
    Containers(federation, folder).control().unregister(silo)
    forget(folder, silo)
    say(f"{silo} is off the server; take it out of {file} too, then `fedlaw deploy render {file}`")


@containers.command()
def pardon(file: File, silo: SiloName) -> None:
    """Lets a silo that sits out back into the run that goes on: it is asked again from the next round on."""
    from fedlaw_flwr.deploy.containers import Containers
    from fedlaw_flwr.events.orders import PARDON

    federation, folder = read(file)
    Containers(federation, folder).order(PARDON, silo)
    say(f"{silo} is asked again from the next round on")


@containers.command()
def remove(file: File, silo: SiloName) -> None:
    """Takes a silo out of the run that goes on: n, and b where it is a fraction, are smaller from the next round on."""
    from fedlaw_flwr.deploy.containers import Containers
    from fedlaw_flwr.events.orders import REMOVE

    federation, folder = read(file)
    Containers(federation, folder).order(REMOVE, silo)
    say(f"{silo} is out of this run; `fedlaw deploy containers unregister` takes its key off the server")


@containers.command()
def prune(file: File) -> None:
    """Removes run folders older than `retention-days`, the server's and their copies here."""
    from fedlaw_flwr.deploy.containers import Containers

    federation, folder = read(file)
    for path in Containers(federation, folder).prune(federation.retention_days):
        say(f"removed {path}")


@containers.command()
def backup(
    file: File, out: Annotated[Path, typer.Argument(help="The .tar.gz to write; it must not be there yet.")]
) -> None:
    """One archive of the running server: database, registrations, certificates, keys, run folders."""
    from fedlaw_flwr.deploy.container_backup import backup as write
    from fedlaw_flwr.deploy.containers import Containers

    count = write(Containers(*read(file)), file, out)
    say(f"{count} files in {out}; there are keys among them: keep it as you keep those")


@containers.command()
def restore(file: File, archive: Archive) -> None:
    """Puts a backup back, its database and run folders into new volumes; nothing that exists is overwritten."""
    from fedlaw_flwr.deploy.container_backup import restore as put_back
    from fedlaw_flwr.deploy.containers import Containers

    count = put_back(Containers(*read(file)), archive)
    say(f"restored {count} files; `fedlaw deploy containers up {file}` starts the server")


@containers.command()
def down(
    file: File,
    volumes: Annotated[bool, typer.Option("--volumes", help="The SuperLink's database and runs too.")] = False,
) -> None:
    """Takes containers and networks away; the database and the run folders stay unless --volumes."""
    from fedlaw_flwr.deploy.containers import Containers

    Containers(*read(file)).down(volumes)
