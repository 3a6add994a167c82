"""What an operator does before a run: init, render, rotate; and what a silo does: join."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from fedlaw_flwr.core.errors import AlreadyThere, InputError
from fedlaw_flwr.deploy.certificates import (
    load_public_key,
    make_authority,
    make_node_key,
    make_server_certificate,
    public_key_line,
)
from fedlaw_flwr.deploy.compose import as_yaml, compose, nginx_conf
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder, write_new, write_rendered
from fedlaw_flwr.deploy.package import render_package
from fedlaw_flwr.silo.config import POLICY, SiloConfig

_POLICY = """\
# What may leave {name} and how much may be asked of it. This file is the institution's: nothing overwrites it, and no
# run and no server can change it. `fedlaw silo` reads it once, when it starts. docs/explanation/safeguards.md says what
# each line gives and what it does not. As it stands it limits nothing: take the # off the lines you want, and set their
# numbers.
message-types: [train, evaluate, query]
# exchanges-per-day: 100        # a round is one to three exchanges, see there
# seconds-per-day: 14400        # of training
# runs: [1234567890]            # these runs alone
# tasks: [own]                  # runs that say they are about one of these
# largest-update-norm: 10.0     # the l2 norm of what would be sent
# minimum-records: 50           # an update or a figure made from fewer is not sent
# privacy:                      # Gaussian noise on every update; read docs/explanation/safeguards.md first
#   clip: 1.0
#   epsilon: 8.0
#   delta: 0.00001
# reviews: true                 # answer a server that asks for reviews (variant=review); read about them there first
# review-privacy:               # Gaussian noise on every review, needed where privacy and reviews are both on
#   clip: 1.0
#   epsilon: 8.0
#   delta: 0.00001
"""


@dataclass(frozen=True)
class Done:
    """What a step made, and what it found in place and left alone."""

    made: list[Path]
    kept: list[Path]


def init(federation: Federation, folder: FederationFolder, drill: bool = False) -> Done:
    """Makes the CA, the server's certificate and, in a drill, every silo's key. Nothing that exists is touched.

    Args:
        federation: The federation.
        folder: The federation's folder.
        drill: Whether to make the silos' keys here. Without it no silo's key is made here: a silo makes its own by
            `join` and sends the public half.

    Returns:
        The files that were made, and those that were in place.
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
    """Makes a silo's own key pair, on its own machine.

    Args:
        name: The silo's name.
        folder: The folder for both files.

    Returns:
        The file of the private key, which stays, and that of the public key, which is to be sent.

    Raises:
        AlreadyThere: If there is a key already.
    """
    private, public = folder / "node.key", folder / f"{name}.pub"
    make_node_key(private, public)
    return private, public


def accept(federation: Federation, folder: FederationFolder, name: str, sent: Path) -> Path:
    """Takes the public key that a silo sent, after a look at it.

    Args:
        federation: The federation.
        folder: The federation's folder.
        name: The silo's name.
        sent: The file of the public key.

    Returns:
        Where the key lies in the folder.

    Raises:
        InputError: If the federation has no such silo, if the file is no node key, or if the key is another silo's.
        AlreadyThere: If the silo has another key already.
    """
    if name not in {silo.name for silo in federation.silos}:
        raise InputError(f"silo {name!r}: federation.yaml names {', '.join(silo.name for silo in federation.silos)}")
    key, place = load_public_key(sent), folder.public_key(name)
    for other in federation.silos:
        held = folder.public_key(other.name)
        if other.name != name and held.exists() and load_public_key(held) == key:
            raise InputError(f"{sent} is the key of {other.name} already: every silo makes its own")
    if place.exists():
        if load_public_key(place) == key:
            return place
        raise AlreadyThere(f"{name} has another key already; `fedlaw deploy rotate` replaces it")
    write_new(place, public_key_line(key))
    return place


def rotate(federation: Federation, folder: FederationFolder, name: str, sent: Path | None) -> Path:
    """Replaces one silo's key.

    The old key, its private half too where that is here, is kept under the time of its end: a running SuperLink takes
    it until `reregister`, which deletes it (`forget_replaced`). A rotation that fails leaves the old key in place.

    Args:
        federation: The federation.
        folder: The federation's folder.
        name: The silo's name.
        sent: The file of the public key that the silo sent. None, in a drill: a pair is made here.

    Returns:
        The old .pub, under its new name.

    Raises:
        InputError: If the silo has no key to replace, if nothing was sent and its private key is not here, or as
            `accept` raises it.
    """
    public, private = folder.public_key(name), folder.private_key(name)
    if not public.exists():
        raise InputError(f"{name} has no key to replace; take its first one by `fedlaw deploy accept`")
    if sent is None and not private.exists():
        raise InputError(f"{name} keeps its own private key: let it run `fedlaw join` again and pass the .pub it sends")
    if sent is not None:
        load_public_key(sent)
    until = f"until-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    moved = [(path, path.with_name(f"{path.name}.{until}")) for path in (public, private) if path.exists()]
    try:
        for path, old in moved:
            path.rename(old)
        if sent is not None:
            accept(federation, folder, name, sent)
        else:
            make_node_key(private, public)
    except BaseException:
        for path, old in moved:  # half a new pair may be there: it is nobody's, and the old one goes over it
            if old.exists():
                old.replace(path)
        raise
    return moved[0][1]


def forget_replaced(folder: FederationFolder, name: str) -> list[Path]:
    """Deletes the keys of this silo that were replaced, once the SuperLink takes them no more.

    Returns:
        The files that were deleted.
    """
    old = folder.replaced(name)
    for path in old:
        path.unlink()
    return old


def forget(folder: FederationFolder, name: str) -> list[Path]:
    """Deletes every key of a silo that has left, so that no `up` registers it again.

    Returns:
        The files that were deleted.
    """
    keys = [path for path in (folder.public_key(name), folder.private_key(name)) if path.exists()]
    for path in keys:
        path.unlink()
    return keys + forget_replaced(folder, name)


def render(federation: Federation, folder: FederationFolder) -> list[Path]:
    """Writes what is made from federation.yaml: the package, each silo's silo.yaml, compose file and proxy.

    The compose file has the server and the silos whose private key is here: in a drill all, in a real federation none.
    Run again, it changes what federation.yaml changed and nothing else. A silo's policy.yaml is written once and never
    again.

    Returns:
        The files that changed.
    """
    changed = render_package(folder.package)
    for silo in federation.silos:
        policy = folder.silo(silo.name) / POLICY
        if not policy.exists():  # its institution's from then on
            write_rendered(policy, policy_yaml(silo.name))
            changed.append(policy)
        path = folder.silo(silo.name) / "silo.yaml"
        if write_rendered(path, silo_yaml(federation.silo_config(silo.name))):
            changed.append(path)
    here = folder.here(silo.name for silo in federation.silos)
    files = {
        folder.path / "compose.yml": as_yaml(compose(federation, here)),
        folder.path / "nginx.conf": nginx_conf(federation),
    }
    return changed + [path for path, content in files.items() if write_rendered(path, content)]


def silo_yaml(config: SiloConfig) -> str:
    """silo.yaml of this silo, what is left at its default left out but for what its operator should see."""
    seen = {"task": config.task, "name": config.name, "policy": POLICY}
    shown = config.model_dump(by_alias=True, exclude_defaults=True) | seen
    text: str = yaml.safe_dump(shown, sort_keys=True)
    head = f"# What {config.name} decides for itself, for `fedlaw silo`; docs/how-to/deploy.md explains each line.\n"
    return head + text


def policy_yaml(name: str) -> str:
    """A first policy.yaml for this silo: it limits nothing and shows every line that would."""
    return _POLICY.format(name=name)


def _sort(done: Done, made: bool, *paths: Path) -> None:
    (done.made if made else done.kept).extend(path for path in paths if path.exists())
