"""What can be wrong at one silo before it joins, looked at on its machine: key, CA, data, policy, release, reach."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import yaml

from fedlaw_flwr.config.document import Document, DocumentError
from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.deploy.certificates import check_dates, load_certificate, load_node_key, public_fingerprint
from fedlaw_flwr.deploy.compose import USER
from fedlaw_flwr.deploy.hostname import host
from fedlaw_flwr.deploy.network import answers
from fedlaw_flwr.silo.config import SiloConfig
from fedlaw_flwr.silo.policy import Policy


def is_silo_file(file: Path) -> bool:
    """Whether this is one silo's silo.yaml; federation.yaml names a server and silos.

    Raises:
        DocumentError: If the file cannot be read.
    """
    data = Document.read(file).data
    return isinstance(data, dict) and not {"superlink", "silos", "run"} & set(data)


def inspect_silo(file: Path, server: str = "", online: bool = True) -> list[Finding]:
    """Every finding about the silo of this silo.yaml, with node.key, ca.crt and compose.yml beside it.

    Nothing is changed.

    Args:
        file: The silo.yaml.
        server: HOST:PORT; without it, where compose.yml sends the silo's node.
        online: Whether to connect there too.

    Raises:
        DocumentError: For a silo.yaml that is wrong.
        InputError: For a server that is no HOST:PORT.
    """
    config, folder = SiloConfig.read(file), file.parent
    where = server or _sent_to(folder, config.name)
    looks: list[Callable[[], list[Finding]]] = [
        lambda: [node_key(folder)],
        lambda: container_user(folder),
        lambda: [authority(folder)],
        lambda: [data(config)],
        lambda: [limits(config)],
        lambda: [release(config)],
        *([lambda: server_of(where, folder)] if online else []),
    ]
    return [finding for look in looks for finding in look()]


def node_key(folder: Path) -> Finding:
    """Whether the silo's private key is there, of the right kind, and its owner's alone."""
    path = folder / "node.key"
    if not path.exists():
        return wrong(f"{path} is missing: `fedlaw join NAME` in this folder makes it")
    if (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        return wrong(f"{path} has mode {mode:04o}: others can read it; chmod 600 {path}")
    try:
        key = load_node_key(path)
    except (ValueError, PermissionError) as error:
        return wrong(str(error))
    return ok(f"{path} is its owner's alone; the operator should hold {public_fingerprint(key.public_key())}")


def container_user(folder: Path) -> list[Finding]:
    """Whether the user that compose.yml runs the containers as can read the key; nothing where it is not there."""
    path, env = folder / "node.key", folder / ".env"
    if not path.exists() or not (folder / "compose.yml").exists():
        return []
    said = re.search(r"^FEDLAW_USER=(\d+)(:\d+)?\s*$", env.read_text(), re.M) if env.exists() else None
    user, owner = int(said[1]) if said else USER, path.stat()
    if user == 0:
        return [wrong(f"{env} lets the containers run as root: name the owner of node.key, who is not root")]
    if user != owner.st_uid:
        line = f"FEDLAW_USER={owner.st_uid}:{owner.st_gid}" if owner.st_uid else f"FEDLAW_USER={USER}:{USER}"
        mend = f"write {line} into {env}" + ("" if owner.st_uid else f", and chown {USER}:{USER} {path}")
        return [wrong(f"the containers run as user {user} and cannot read {path}, user {owner.st_uid}'s: {mend}")]
    return [ok(f"the containers run as user {user}, the owner of node.key")]


def authority(folder: Path) -> Finding:
    """Whether the federation's CA certificate is there and valid."""
    path = folder / "ca.crt"
    if not path.exists():
        return wrong(f"{path} is missing: it comes with the bundle; without it the server cannot be known")
    try:
        certificate = load_certificate(path)
    except InputError as error:
        return wrong(str(error))
    return check_dates("CA", certificate, "ask the federation's operator for the new ca.crt")


def data(config: SiloConfig) -> Finding:
    """Whether what data-path names is there and can be read; what is in it `fedlaw check` tells."""
    if not config.data_path:
        return ok("no data-path: the task reads no files of this silo's")
    path = Path(config.data_path)
    if not path.is_absolute():
        return wrong(f"data-path={config.data_path!r}: an absolute path is needed, to be mounted as it is")
    if not path.exists():
        return wrong(f"data-path={config.data_path!r} is not on this machine")
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        return wrong(f"data-path={config.data_path!r} cannot be read by user {os.getuid()}")
    return ok(f"{config.data_path} can be read by user {os.getuid()}; `fedlaw check --silo` looks at what is in it")


def limits(config: SiloConfig) -> Finding:
    """Whether the silo's policy can be read; `fedlaw silo` does not start with one that cannot."""
    if not config.policy:
        return note("silo.yaml names no policy: nothing limits what leaves this silo (docs/explanation/safeguards.md)")
    try:
        policy = Policy.read(Path(config.policy))
    except DocumentError as error:
        return wrong(str(error))
    if policy == Policy():
        return note(f"{config.policy} limits nothing yet (docs/explanation/safeguards.md)")
    return ok(f"{config.policy} is in force")


def release(config: SiloConfig) -> Finding:
    """Whether the Flower installed here is of the server's release."""
    try:
        config.check_version()
    except ValueError as error:
        return wrong(str(error))
    return ok(f"flwr here is the server's release, {config.flwr}" if config.flwr else "silo.yaml asks for no release")


def server_of(where: str, folder: Path) -> list[Finding]:
    """Whether the server answers at HOST:PORT with a certificate of this federation, and hides what it must."""
    if not where:
        return [note("no compose.yml here says where the server is: name it by --server HOST:PORT")]
    return answers(*_host_and_port(where), folder / "ca.crt")


def _host_and_port(where: str) -> tuple[str, int]:
    """HOST:PORT, the host of an IPv6 address in brackets. Raises InputError for anything else."""
    name, _, port = where.rpartition(":")
    if not name or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise InputError(f"server={where!r}: HOST:PORT is expected")
    if ":" in name and not name.startswith("[") and "/" not in name:
        raise InputError(f"server={where!r}: HOST:PORT is expected, an IPv6 address in brackets: [::1]:9443")
    try:
        return host(name[1:-1] if name.startswith("[") and name.endswith("]") else name), int(port)
    except InputError as error:
        raise InputError(f"server={where!r}: {error}") from None


def _sent_to(folder: Path, name: str) -> str:
    """Where compose.yml sends this silo's node, as HOST:PORT; "" where there is none that says so."""
    path = folder / "compose.yml"
    if not path.exists():
        return ""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    command = document.get("services", {}).get(f"{name}-node", {}).get("command", []) if document else []
    return str(command[command.index("--superlink") + 1]) if "--superlink" in command[:-1] else ""
