"""Who listens where: whether a port is free or the federation's own, and what a server answers under its name."""

import errno
import ipaddress
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx

from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.deploy.federation import is_address

_REACH = 5.0


def is_loopback(host: str) -> bool:
    """Whether this name reaches nothing but the machine that it is spoken on."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def server_port(address: str, port: int, authority: Path) -> Finding:
    """Whether the server can have this port of this machine: free, or taken by a server that this CA vouches for."""
    what = f"the server's port {port} on this machine"
    return _port(address, port, what, "the server cannot start", lambda: _speaks_for("localhost", port, authority))


def metrics_port(port: int) -> Finding:
    """Whether the metrics' container can have this port of this machine; only a note, since no run needs it."""
    what, mend = f"the metrics' port {port} on this machine", "FEDLAW_METRICS_PORT in the environment names another"
    found = _port("127.0.0.1", port, what, mend, lambda: _serves_metrics(port))
    return note(found.what) if found.kind == "wrong" else found


def _port(address: str, port: int, what: str, then: str, is_ours: Callable[[], bool]) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what hung up a minute ago takes no port
        try:
            probe.bind((address, port))
        except PermissionError:
            return note(f"{what} is root's: the container engine may open it, `fedlaw deploy local` may not")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return wrong(f"{what} cannot be had: {error.strerror}")
            if is_ours():
                return ok(f"{what} is held by this federation")
            return wrong(f"{what} is taken by another program: {then}")
    return ok(f"{what} is free")


def _speaks_for(name: str, port: int, authority: Path) -> bool:
    """Whether who listens on this machine shows a certificate of this CA for this name."""
    if not authority.exists():
        return False
    trusted = ssl.create_default_context(cafile=str(authority))
    try:
        with (
            socket.create_connection(("127.0.0.1", port), _REACH) as plain,
            trusted.wrap_socket(plain, server_hostname=name),
        ):
            return True
    except OSError:  # of which ssl.SSLError is one
        return False


def _serves_metrics(port: int) -> bool:
    """Whether this is `fedlaw metrics`: it serves figures of its own and, before the first run, none at all."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=_REACH)
    except httpx.HTTPError:
        return False
    figures = [line for line in answer.text.splitlines() if line and not line.startswith("#")]
    return answer.is_success and all(line.startswith("fedlaw_") for line in figures)


def answers(host: str, port: int, authority: Path) -> list[Finding]:
    """Whether the server answers under its name with its certificate, and hides what silos must not reach.

    A certificate of another CA, a name it does not hold, and nobody listening are different sentences.
    """
    if not authority.exists():
        return [wrong(f"{authority} is missing; without it the server cannot be known")]
    trusted = ssl.create_default_context(cafile=str(authority))
    try:
        with (
            socket.create_connection((host, port), _REACH) as plain,
            trusted.wrap_socket(plain, server_hostname=host),
        ):
            pass
    except ssl.SSLCertVerificationError as error:
        return [wrong(f"{host}:{port} shows a certificate that is not this federation's: {error.verify_message}")]
    except ssl.SSLError as error:
        return [wrong(f"{host}:{port} does not speak TLS: {error.reason}")]
    except OSError as error:
        return [wrong(f"{host}:{port} cannot be reached: {error}; is it up, is the port open?")]
    return [ok(f"{host}:{port} answers with this federation's certificate"), _exposure(host, port, trusted)]


def _exposure(host: str, port: int, trusted: ssl.SSLContext) -> Finding:
    """Whether Flower's control interface answers here."""
    address = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    try:
        with httpx.Client(base_url=address, verify=trusted, timeout=_REACH) as client:
            hidden = client.post("/v1/control/list-runs").status_code in (403, 404)
    except httpx.HTTPError as error:
        return wrong(f"{address} breaks off: {type(error).__name__}")
    if hidden:
        return ok("the server's control interface is not reachable from here")
    what = "the server's control interface is reachable: whoever gets here can submit code to every silo"
    if is_loopback(host):
        return note(f"{what}; {host} is this machine alone, as in `fedlaw deploy local`")
    return wrong(f"{what}; put the proxy in front (docs/how-to/deploy.md)")
