"""What can be wrong before a run, looked at: feasibility, certificates, keys, ports, data paths, versions, reach."""

import importlib.metadata
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from packaging.requirements import Requirement

from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.flower import installed
from fedlaw_flwr.core.simplex import Simplex, byzantine_count
from fedlaw_flwr.deploy.certificates import check_certificates, fingerprint, load_node_key, load_public_key
from fedlaw_flwr.deploy.compose import METRICS_PORT, published_on
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.network import answers, metrics_port, server_port
from fedlaw_flwr.protocol.model_findings import model_findings
from fedlaw_flwr.rules import check
from fedlaw_flwr.strategy.advice import on_variant
from fedlaw_flwr.tasks import TASKS
from fedlaw_flwr.tasks.initial import load_initial


def inspect(federation: Federation, folder: FederationFolder, online: bool = True) -> list[Finding]:
    """Every finding, the good ones too, in the order in which a run would meet them. Nothing is changed.

    Args:
        federation: The federation.
        folder: The federation's folder.
        online: Whether to connect to the server too, verify its certificate, and see that only Flower's fleet interface
            answers.
    """
    looks: list[Callable[[], list[Finding]]] = [
        lambda: [feasibility(federation)],
        lambda: variant(federation),
        lambda: initial_model(federation),
        lambda: check_certificates(federation, folder),
        lambda: private_modes(folder),
        lambda: node_keys(federation, folder),
        lambda: ports(federation, folder),
        lambda: data_paths(federation, folder),
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
        return wrong(f"{drills} silos attack in drills and max-byzantine={b}: nothing is promised beyond {b}")
    if settings.strategy == "fedlaw":
        x = Simplex.for_federation(n, settings.max_byzantine, settings.s, settings.t)
        what = f"FedLAW: {n} silos, at most {b} Byzantine, at most {x.s} carry weight, none above {x.t:.3f}"
        return ok(f"{what}; {n - 2 * b - 2} may be absent before a round is skipped")
    check(settings.strategy, n, settings.rule_settings())
    return ok(f"{settings.strategy}: {n} silos, at most {b} Byzantine")


def variant(federation: Federation) -> list[Finding]:
    """Whether peer review held better at this size in our tables, and how to switch."""
    settings = federation.settings()
    bound = byzantine_count(settings.max_byzantine, settings.num_silos)
    advice = on_variant(settings.variant, settings.num_silos, bound) if settings.strategy == "fedlaw" else None
    return [note(advice)] if advice else []


def initial_model(federation: Federation) -> list[Finding]:
    """What the server will do with the arrays of the file that `initial-model` names; nothing where none is named."""
    settings = federation.settings()
    if not settings.initial_model:
        return []
    from flwr.app import Array, ArrayRecord

    try:
        arrays = load_initial(Path(settings.initial_model)).arrays
    except InputError as error:
        return [wrong(str(error))]
    found = model_findings(ArrayRecord({key: Array(value) for key, value in arrays.items()}), settings.buffers)
    return [replace(finding, what=f"initial-model: {finding.what}") for finding in found]


def private_modes(folder: FederationFolder) -> list[Finding]:
    """Whether others can read a private key."""
    found = []
    # Keys that a rotation has replaced too: the old one is good until it is off the server.
    for path in sorted({folder.ca_key, folder.server_key, *folder.path.glob("silos/*/node.key*")}):
        if path.exists() and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            found.append(wrong(f"{path} has mode {mode:04o}: others can read it; chmod 600 {path}"))
    return found or [ok("private keys are their owner's alone")]


def node_keys(federation: Federation, folder: FederationFolder) -> list[Finding]:
    """Whether every silo's public key is there, of the right kind, its own, and the partner of a private one here."""
    found, holders = [], dict[str, str]()
    for silo in federation.silos:
        path = folder.public_key(silo.name)
        if not path.exists():
            what = f"{silo.name} has sent no key: it runs `fedlaw join {silo.name}`, you run `fedlaw deploy accept`"
            found.append(wrong(what))
            continue
        try:
            public = load_public_key(path)
            private = load_node_key(folder.private_key(silo.name)) if folder.here([silo.name]) else None
        except ValueError as error:
            found.append(wrong(str(error)))
            continue
        print_ = fingerprint(path)
        if print_ in holders:
            found.append(wrong(f"{silo.name} and {holders[print_]} have one key, {print_}"))
        holders[print_] = silo.name
        if private and private.public_key() != public:
            what = "does not belong to the node.pub beside it: the silo's node would be refused"
            found.append(wrong(f"{folder.private_key(silo.name)} {what}"))
    return found or [ok(f"all {len(federation.silos)} silos have a key of their own")]


def ports(federation: Federation, folder: FederationFolder) -> list[Finding]:
    """Whether the ports that the server opens on its machine, this one, are free or held by the server itself."""
    metrics = os.environ.get("FEDLAW_METRICS_PORT") or str(METRICS_PORT)
    if not metrics.isdecimal() or not 0 < int(metrics) < 65536:
        raise InputError(f"FEDLAW_METRICS_PORT={metrics!r}: a port is expected, 1 to 65535")
    return [
        server_port(published_on(federation), federation.superlink.port, folder.ca_certificate),
        metrics_port(int(metrics)),
    ]


def data_paths(federation: Federation, folder: FederationFolder) -> list[Finding]:
    """Whether silos whose task reads files name a data path, and whether it exists.

    Where the silo's private key is here, so must its data be; of another machine only that machine can tell.
    """
    found, here = [], folder.here(silo.name for silo in federation.silos)
    for silo in federation.silos:
        task = silo.task or federation.settings().task
        reads = task in ("tabular", "image_folder") or (task in TASKS and TASKS[task].needs_files)
        if not silo.client and reads and not silo.data_path:
            found.append(wrong(f"{silo.name}: task {task} reads files; name its data-path"))
        if silo.data_path and not Path(silo.data_path).is_absolute():
            found.append(wrong(f"{silo.name}: data-path={silo.data_path!r} must be absolute"))
        elif silo.data_path and not Path(silo.data_path).exists():
            what = f"{silo.name}: {silo.data_path} is not on this machine"
            found.append(
                wrong(f"{what}, and the silo is: its node.key lies here")
                if silo.name in here
                else note(f"{what}; right if the silo is elsewhere, where `fedlaw preflight silo.yaml` looks")
            )
    return found or [ok("data paths are as the tasks need them")]


def versions() -> Finding:
    """Whether the Flower installed here is one this package was tested with.

    The other end looks for itself: silo.yaml says which Flower the server runs, and `fedlaw silo` compares.
    """
    wanted = next(
        requirement
        for requirement in map(Requirement, importlib.metadata.requires("fedlaw-flwr") or [])
        if requirement.name == "flwr" and requirement.marker is None
    )
    here = installed()
    what = f"flwr {here} is installed here; tested are {wanted.specifier}"
    return ok(what) if wanted.specifier.contains(here) else wrong(what)


def reach(federation: Federation, folder: FederationFolder) -> list[Finding]:
    """Whether the server answers under its name with its certificate, and hides what silos must not reach."""
    return answers(federation.superlink.host, federation.superlink.port, folder.ca_certificate)
