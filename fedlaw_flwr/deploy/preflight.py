"""What can be wrong before a run, looked at: feasibility, certificates, keys, ports, data paths, versions, reach."""

import importlib.metadata
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import httpx
from packaging.requirements import Requirement

from fedlaw_flwr.deploy.certificates import Finding, check_certificates, fingerprint, load_public_key
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.rules import check
from fedlaw_flwr.tasks import TASKS
from fedlaw_flwr.weighting import Simplex, byzantine_count

_REACH = 5.0


def inspect(federation: Federation, folder: FederationFolder, online: bool = True) -> list[Finding]:
    """Every finding, the good ones too, in the order in which a run would meet them. Nothing is changed.

    online: also connect to the server, verify its certificate, and see that only Flower's fleet interface answers.
    """
    looks: list[Callable[[], list[Finding]]] = [
        lambda: [feasibility(federation)],
        lambda: check_certificates(federation, folder),
        lambda: private_modes(folder),
        lambda: node_keys(federation, folder),
        lambda: data_paths(federation),
        lambda: [versions()],
        *([lambda: reach(federation, folder)] if online else []),
    ]
    return [finding for look in looks for finding in look()]


def feasibility(federation: Federation) -> Finding:
    """Whether the rule can withstand what it is told to: n, b, s, t, or the rule's own condition on n and f."""
    settings = federation.settings()  # refused by `Federation.read` where it cannot hold
    n, b = settings.num_silos, byzantine_count(settings.max_byzantine, settings.num_silos)
    drills = len(federation.drills)
    if drills > b:
        return Finding(False, f"{drills} silos attack in drills and max-byzantine={b}: nothing is promised beyond {b}")
    if settings.strategy == "fedlaw":
        x = Simplex.for_federation(n, settings.max_byzantine, settings.s, settings.t)
        what = f"FedLAW: {n} silos, at most {b} Byzantine, at most {x.s} carry weight, none above {x.t:.3f}"
        return Finding(True, f"{what}; {n - 2 * b - 2} may be absent before a round is held")
    check(settings.strategy, n, settings.rule_settings())
    return Finding(True, f"{settings.strategy}: {n} silos, at most {b} Byzantine")


def private_modes(folder: FederationFolder) -> list[Finding]:
    """Whether others can read a private key."""
    found = []
    for path in sorted({folder.ca_key, folder.server_key, *folder.path.glob("silos/*/node.key")}):
        if path.exists() and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            found.append(Finding(False, f"{path} has mode {mode:04o}: others can read it; chmod 600 {path}"))
    return found or [Finding(True, "private keys are their owner's alone")]


def node_keys(federation: Federation, folder: FederationFolder) -> list[Finding]:
    """Whether every silo's public key is there, of the right kind, and its own."""
    found, holders = [], dict[str, str]()
    for silo in federation.silos:
        path = folder.public_key(silo.name)
        if not path.exists():
            what = f"{silo.name} has sent no key: it runs `fedlaw join {silo.name}`, you run `fedlaw deploy accept`"
            found.append(Finding(False, what))
            continue
        try:
            load_public_key(path)
        except ValueError as error:
            found.append(Finding(False, str(error)))
            continue
        print_ = fingerprint(path)
        if print_ in holders:
            found.append(Finding(False, f"{silo.name} and {holders[print_]} have one key, {print_}"))
        holders[print_] = silo.name
    return found or [Finding(True, f"all {len(federation.silos)} silos have a key of their own")]


def data_paths(federation: Federation) -> list[Finding]:
    """Whether silos whose task reads files name a data path; whether it exists only the silo's machine can tell."""
    found = []
    for silo in federation.silos:
        task = silo.task or federation.settings().task
        reads = task in ("tabular", "image_folder") or (task in TASKS and TASKS[task].needs_files)
        if not silo.client and reads and not silo.data_path:
            found.append(Finding(False, f"{silo.name}: task {task} reads files; name its data-path"))
        if silo.data_path and not Path(silo.data_path).is_absolute():
            found.append(Finding(False, f"{silo.name}: data-path={silo.data_path!r} must be absolute"))
        elif silo.data_path and not Path(silo.data_path).exists():
            found.append(
                Finding(True, f"{silo.name}: {silo.data_path} is not on this machine; right if it is elsewhere")
            )
    return found or [Finding(True, "data paths are as the tasks need them")]


def versions() -> Finding:
    """Whether the Flower installed here is one this package was tested with.

    The other end looks for itself: silo.yaml says which Flower the server runs, and `fedlaw silo` compares.
    """
    wanted = next(
        requirement
        for requirement in map(Requirement, importlib.metadata.requires("fedlaw-flwr") or [])
        if requirement.name == "flwr" and requirement.marker is None
    )
    here = importlib.metadata.version("flwr")
    ok = wanted.specifier.contains(here)
    return Finding(ok, f"flwr {here} is installed here; tested are {wanted.specifier}")


def reach(federation: Federation, folder: FederationFolder) -> list[Finding]:
    """Whether the server answers under its name with its certificate, and hides what silos must not reach.

    A certificate of another CA, a name it does not hold, and nobody listening are different sentences.
    """
    host, port = federation.superlink.host, federation.superlink.port
    if not folder.ca_certificate.exists():
        return [Finding(False, f"{folder.ca_certificate} is missing; without it the server cannot be known")]
    trusted = ssl.create_default_context(cafile=str(folder.ca_certificate))
    try:
        with (
            socket.create_connection((host, port), _REACH) as plain,
            trusted.wrap_socket(plain, server_hostname=host),
        ):
            pass
    except ssl.SSLCertVerificationError as error:
        return [
            Finding(False, f"{host}:{port} shows a certificate that is not this federation's: {error.verify_message}")
        ]
    except ssl.SSLError as error:
        return [Finding(False, f"{host}:{port} does not speak TLS: {error.reason}")]
    except OSError as error:
        return [Finding(False, f"{host}:{port} cannot be reached: {error}; is it up, is the port open?")]
    found = [Finding(True, f"{host}:{port} answers with this federation's certificate")]
    return [*found, *_exposure(f"https://{host}:{port}", trusted)]


def _exposure(address: str, trusted: ssl.SSLContext) -> list[Finding]:
    """Whether Flower's control interface answers here."""
    try:
        with httpx.Client(base_url=address, verify=trusted, timeout=_REACH) as client:
            hidden = client.post("/v1/control/list-runs").status_code in (403, 404)
    except httpx.HTTPError as error:
        return [Finding(False, f"{address} breaks off: {type(error).__name__}")]
    if hidden:
        return [Finding(True, "the server's control interface is not reachable from here")]
    what = "the server's control interface is reachable: whoever gets here can submit code to every silo"
    return [Finding(False, f"{what}; put the proxy in front (docs/deploying.md)")]
