"""Who listens where: whether a port is free or the federation's own, and what a server answers under its name."""

import errno
import ipaddress
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx

from fedlaw_flwr.config.findings import Finding, note, ok, wrong
from fedlaw_flwr.deploy.hostname import is_address
from fedlaw_flwr.simulation.processes import holder_of

_REACH = 5.0
_EXPIRED, _NOT_YET, _OTHER_NAME, _OTHER_ADDRESS = 10, 9, 62, 64
_OWN_BUT_REFUSED = {
    _EXPIRED: "renew it (docs/how-to/deploy.md), or set the clock of this machine",
    _NOT_YET: "the clock of this machine or of the one that made it is wrong",
    _OTHER_NAME: "add the name to also-known-as in federation.yaml and renew it (docs/how-to/deploy.md)",
    _OTHER_ADDRESS: "add the address to also-known-as in federation.yaml and renew it (docs/how-to/deploy.md)",
}
"""What OpenSSL finds wrong with a certificate that the federation's CA may have signed all the same; what to do."""


def is_loopback(host: str) -> bool:
    """Whether this name reaches nothing but the machine that it is spoken on."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def server_port(address: str, port: int, authority: Path) -> Finding:
    """Whether the server can have this port of this machine: free, or taken by a server that this CA vouches for."""
    what = f"the server's port {port} on this machine"
    found = _port(address, port, what, "the server cannot start", lambda: _shown("localhost", port, authority)[0])
    if found.kind == "wrong" and (refused := _shown("localhost", port, authority)[1]):
        return wrong(f"{what} is held by a server whose certificate is refused: {refused}")
    return found


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
            who = f"; it is {holder}" if (holder := holder_of(port)) else ""
            return wrong(f"{what} is taken by another program: {then}{who}")
    return ok(f"{what} is free")


def _shown(name: str, port: int, authority: Path) -> tuple[bool, str]:
    """Whether who listens on this machine shows a certificate of this CA for this name.

    Args:
        name: The name that the certificate must hold.
        port: The port on 127.0.0.1.
        authority: The file of the CA's certificate.

    Returns:
        Whether such a certificate is shown, and otherwise why TLS refuses it. The reason is "" where the certificate is
        another CA's, and where there is none.
    """
    if not authority.exists():
        return False, ""
    trusted = ssl.create_default_context(cafile=str(authority))
    try:
        with (
            socket.create_connection(("127.0.0.1", port), _REACH) as plain,
            trusted.wrap_socket(plain, server_hostname=name),
        ):
            return True, ""
    except ssl.SSLCertVerificationError as error:
        mend = _OWN_BUT_REFUSED.get(error.verify_code)
        return False, f"{error.verify_message}; {mend}" if mend else ""
    except OSError:  # of which ssl.SSLError is one
        return False, ""


def _serves_metrics(port: int) -> bool:
    """Whether this is `fedlaw metrics`: it serves figures of its own and, before the first run, none at all."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=_REACH, trust_env=False)
    except httpx.HTTPError:
        return False
    figures = [line for line in answer.text.splitlines() if line and not line.startswith("#")]
    return answer.is_success and all(line.startswith("fedlaw_") for line in figures)


def answers(host: str, port: int, authority: Path) -> list[Finding]:
    """Whether the server answers under its name with its certificate, and hides what silos must not reach.

    Args:
        host: The server's name or address.
        port: The server's port.
        authority: The file of the CA's certificate.

    Returns:
        The findings. A certificate of another CA, a name it does not hold, and nobody listening are different
        sentences.
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
        if mend := _OWN_BUT_REFUSED.get(error.verify_code):
            return [wrong(f"{host}:{port} shows a certificate that is refused: {error.verify_message}; {mend}")]
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
        with httpx.Client(base_url=address, verify=trusted, timeout=_REACH, trust_env=False) as client:
            hidden = client.post("/v1/control/list-runs").status_code in (403, 404)
    except httpx.HTTPError as error:
        return wrong(f"{address} breaks off: {type(error).__name__}")
    if hidden:
        return ok("the server's control interface is not reachable from here")
    what = "the server's control interface is reachable: whoever gets here can submit code to every silo"
    if is_loopback(host):
        return note(f"{what}; {host} is this machine alone, as in `fedlaw deploy local`")
    return wrong(f"{what}; put the proxy in front (docs/how-to/deploy.md)")
