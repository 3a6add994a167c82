"""What an operator does before a run: init, render, rotate; and what a silo does: join."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from fedlaw_flwr.deploy.certificates import (
    load_public_key,
    make_authority,
    make_node_key,
    make_server_certificate,
    public_key_line,
)
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder, write_new, write_rendered
from fedlaw_flwr.deploy.package import render_package
from fedlaw_flwr.silo.config import SiloConfig


@dataclass(frozen=True)
class Done:
    """What a step made, and what it found in place and left alone."""

    made: list[Path]
    kept: list[Path]


def init(federation: Federation, folder: FederationFolder, drill: bool = False) -> Done:
    """The CA, the server's certificate and, in a drill, every silo's key. Nothing that exists is touched.

    Without drill no silo's key is made here: a silo makes its own by `join` and sends the public half.
    """
    done = Done([], [])
    authority, server = make_authority(federation, folder), make_server_certificate(federation, folder)
    _sort(done, authority, folder.ca_certificate, folder.ca_key)
    _sort(done, server, folder.server_certificate, folder.server_key)
    for silo in federation.silos if drill else []:
        private, public = folder.private_key(silo.name), folder.public_key(silo.name)
        made = not public.exists()
        if made:
            make_node_key(private, public)
        _sort(done, made, public, private)
    return done


def join(name: str, folder: Path) -> tuple[Path, Path]:
    """A silo's own key pair, made on its own machine: the private key, which stays, and the public one, to be sent.

    Raises FileExistsError if there is a key already.
    """
    private, public = folder / "node.key", folder / f"{name}.pub"
    make_node_key(private, public)
    return private, public


def accept(federation: Federation, folder: FederationFolder, name: str, sent: Path) -> Path:
    """Takes the public key that a silo sent, after a look at it. Raises ValueError, FileExistsError for a second."""
    if name not in {silo.name for silo in federation.silos}:
        raise ValueError(f"silo {name!r}: federation.yaml names {', '.join(silo.name for silo in federation.silos)}")
    key, place = load_public_key(sent), folder.public_key(name)
    for other in federation.silos:
        held = folder.public_key(other.name)
        if other.name != name and held.exists() and load_public_key(held) == key:
            raise ValueError(f"{sent} is the key of {other.name} already: every silo makes its own")
    if place.exists():
        if load_public_key(place) == key:
            return place
        raise FileExistsError(f"{name} has another key already; `fedlaw deploy rotate` replaces it")
    write_new(place, public_key_line(key))
    return place


def rotate(federation: Federation, folder: FederationFolder, name: str, sent: Path | None) -> Path:
    """Replaces one silo's key by the public key it sent or, in a drill, by a pair made here; returns the old key.

    The old key is kept under the time of its end. A running SuperLink takes it until `fedlaw deploy reregister`.
    """
    public, private = folder.public_key(name), folder.private_key(name)
    if not public.exists():
        raise ValueError(f"{name} has no key to replace; take its first one by `fedlaw deploy accept`")
    if sent is None and not private.exists():
        raise ValueError(f"{name} keeps its own private key: let it run `fedlaw join` again and pass the .pub it sends")
    if sent is not None:
        load_public_key(sent)
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    old = public.with_name(f"node.pub.until-{stamp}")
    public.rename(old)
    try:
        if sent is not None:
            accept(federation, folder, name, sent)
        else:
            private.rename(private.with_name(f"node.key.until-{stamp}"))
            make_node_key(private, public)
    except BaseException:
        if not public.exists():
            old.rename(public)
        raise
    return old


def render(federation: Federation, folder: FederationFolder) -> list[Path]:
    """Writes what is made from federation.yaml alone: the package, each silo's silo.yaml, compose file and proxy.

    Run again, it changes what federation.yaml changed and nothing else. Returns the files that changed.
    """
    from fedlaw_flwr.deploy.compose import as_yaml, compose, nginx_conf

    changed = render_package(federation, folder.package)
    for silo in federation.silos:
        path = folder.silo(silo.name) / "silo.yaml"
        if write_rendered(path, silo_yaml(federation.silo_config(silo.name))):
            changed.append(path)
    files = {
        folder.path / "compose.yml": as_yaml(compose(federation)),
        folder.path / "nginx.conf": nginx_conf(federation),
    }
    return changed + [path for path, content in files.items() if write_rendered(path, content)]


def silo_yaml(config: SiloConfig) -> str:
    """silo.yaml of this silo, what is left at its default left out but for what its operator should see."""
    shown = config.model_dump(by_alias=True, exclude_defaults=True) | {"task": config.task, "name": config.name}
    text: str = yaml.safe_dump(shown, sort_keys=True)
    head = f"# What {config.name} decides for itself, for `fedlaw silo`; docs/deploying.md says what each line means.\n"
    return head + text


def _sort(done: Done, made: bool, *paths: Path) -> None:
    (done.made if made else done.kept).extend(paths)
