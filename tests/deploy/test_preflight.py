"""`fedlaw preflight` at the server and at a silo: what is right, what is wrong, what a person must decide."""

import http.server
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from fedlaw_flwr.cli.main import app
from fedlaw_flwr.config.findings import Finding
from fedlaw_flwr.core.flower import installed, release_of
from fedlaw_flwr.deploy.bundle import write_bundle
from fedlaw_flwr.deploy.certificates import fingerprint
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.network import is_loopback, metrics_port, server_port
from fedlaw_flwr.deploy.preflight import data_paths, inspect, ports
from fedlaw_flwr.deploy.preparation import init, join
from fedlaw_flwr.deploy.silo_preflight import inspect_silo

TEXT = """\
name: clinics
superlink:
  host: {host}
  port: {port}
run:
  max-byzantine: 1
silos:
  - name: aachen
    data-path: {data}
  - name: bonn
  - name: celle
  - name: dresden
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers everything with the server's `status` and `body`."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.body)

    do_POST = do_GET

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def listening(certified: FederationFolder | None = None, status: int = 200, body: bytes = b"") -> Iterator[int]:
    """A server on loopback, with a federation's certificate or in plain HTTP; its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.status, server.body = status, body
    if certified:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certified.server_certificate, certified.server_key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda request, client: None  # a client that turns away is what is tested
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def make(tmp_path) -> Callable[..., tuple[Federation, FederationFolder, Path]]:
    """Writes a federation of this host, port and data path; the federation, its folder and its file."""

    def made(host: str = "127.0.0.1", port: int = 1, data: str = "/srv/nowhere/patients"):
        file = tmp_path / "federation.yaml"
        file.write_text(TEXT.format(host=host, port=port, data=data))
        federation = Federation.read(file)
        return federation, FederationFolder.beside(file, federation.name), file

    return made


def kinds(findings: list[Finding]) -> list[str]:
    return [finding.kind for finding in findings]


# -- at the server ---------------------------------------------------------------------------------------------


def test_a_port_that_nobody_holds_is_free(make):
    federation, folder, _ = make(port=free_port())
    server, metrics = ports(federation, folder)
    assert server == Finding("ok", f"the server's port {federation.superlink.port} on this machine is free")
    assert "the metrics' port 9100 on this machine is" in metrics.what


def test_the_server_s_own_port_is_right_and_a_stranger_s_is_wrong(make, tmp_path):
    federation, folder, _ = make()
    init(federation, folder)
    other = FederationFolder(tmp_path / "other")
    init(federation, other)
    with listening(folder) as port:
        assert server_port("127.0.0.1", port, folder.ca_certificate).what.endswith("is held by this federation")
        assert server_port("", port, folder.ca_certificate).ok  # taken on one address is taken on all
        taken = server_port("127.0.0.1", port, other.ca_certificate)
    with listening() as port:
        assert server_port("127.0.0.1", port, folder.ca_certificate).kind == "wrong"
    assert taken.kind == "wrong" and "is taken by another program: the server cannot start" in taken.what


def test_the_metrics_port_is_known_by_its_figures_and_another_program_on_it_is_no_error():
    with listening(body=b'# HELP fedlaw_round x\nfedlaw_round{run="1"} 2.0\n') as port:
        assert metrics_port(port).ok
    with listening() as port:  # before the first run
        assert metrics_port(port).ok
    with listening(body=b"node_cpu_seconds_total 7\n") as port:
        found = metrics_port(port)
    assert found.kind == "note" and "FEDLAW_METRICS_PORT in the environment names another" in found.what


def test_another_metrics_port_is_looked_at_where_the_environment_names_it(make, monkeypatch):
    federation, folder, _ = make(port=free_port())
    port = free_port()
    monkeypatch.setenv("FEDLAW_METRICS_PORT", str(port))
    assert ports(federation, folder)[1].what == f"the metrics' port {port} on this machine is free"
    monkeypatch.setenv("FEDLAW_METRICS_PORT", "http")
    with pytest.raises(ValueError, match="FEDLAW_METRICS_PORT='http': a port is expected"):
        ports(federation, folder)


def test_data_that_is_not_here_is_wrong_where_the_silo_is_here(make, tmp_path):
    federation, folder, _ = make()
    (elsewhere,) = data_paths(federation, folder)
    assert elsewhere.kind == "note" and "aachen: /srv/nowhere/patients is not on this machine; right" in elsewhere.what
    init(federation, folder, drill=True)
    (here,) = data_paths(federation, folder)
    assert here.kind == "wrong" and "and the silo is: its node.key lies here" in here.what
    federation, folder, _ = make(data=str(tmp_path))
    assert kinds(data_paths(federation, folder)) == ["ok"]


def test_a_healthy_federation_on_loopback_exits_with_0_and_a_note_of_what_it_lets_in(make, tmp_path):
    federation, folder, file = make(host="localhost", data=str(tmp_path))
    init(federation, folder, drill=True)
    with listening(folder) as port:
        file.write_text(TEXT.format(host="localhost", port=port, data=tmp_path))
        told = CliRunner().invoke(app, ["preflight", str(file)])
    assert told.exit_code == 0, told.output
    assert "note  the server's control interface is reachable" in told.output and "WRONG" not in told.output


def test_a_control_interface_is_hidden_by_the_proxy_s_403(make):
    federation, folder, file = make(host="localhost")
    init(federation, folder, drill=True)
    with listening(folder, status=403) as port:
        file.write_text(TEXT.format(host="localhost", port=port, data="/"))
        findings = inspect(Federation.read(file), folder)
    assert findings[-1] == Finding("ok", "the server's control interface is not reachable from here")


def test_offline_nobody_is_called(make):
    federation, folder, _ = make(port=free_port(), data="/")
    init(federation, folder, drill=True)
    assert "wrong" not in kinds(inspect(federation, folder, online=False))
    assert "cannot be reached" in inspect(federation, folder)[-1].what


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("::1234", False),
        ("10.0.0.7", False),
        ("127.example.org", False),
    ],
)
def test_what_reaches_this_machine_alone(host, alone):
    assert is_loopback(host) is alone


# -- at a silo -------------------------------------------------------------------------------------------------


@pytest.fixture
def silo(make, tmp_path) -> tuple[Path, FederationFolder]:
    """aachen's folder as its bundle and `fedlaw join` make it, and the federation's folder."""
    import tarfile

    federation, folder, _ = make(host="localhost", data=str(tmp_path))
    init(federation, folder)
    with tarfile.open(write_bundle(federation, folder, "aachen")) as archive:
        archive.extractall(tmp_path, filter="data")
    place = tmp_path / "clinics-aachen"
    join("aachen", place)
    (place / ".env").write_text(f"FEDLAW_USER={os.getuid() or 49999}:{os.getgid() or 49999}\n")
    if os.getuid() == 0:
        os.chown(place / "node.key", 49999, 49999)
    return place, folder


def test_a_silo_made_as_its_page_says_has_nothing_wrong(silo):
    place, folder = silo
    with listening(folder, status=403) as port:
        compose = (place / "compose.yml").read_text()
        (place / "compose.yml").write_text(compose.replace("localhost:1", f"localhost:{port}"))
        told = CliRunner().invoke(app, ["preflight", str(place / "silo.yaml")])
    assert told.exit_code == 0, told.output
    assert fingerprint(place / "aachen.pub") in told.output
    assert "answers with this federation's certificate" in told.output
    assert "policy.yaml limits nothing yet" in told.output


def what_is_wrong(place: Path) -> str:
    (finding,) = [one for one in inspect_silo(place / "silo.yaml", online=False) if one.kind == "wrong"]
    return finding.what


def change(file: Path, was: str, now: str) -> None:
    text = file.read_text()
    assert was in text
    file.write_text(text.replace(was, now))


def test_a_key_others_can_read_or_that_is_none_is_wrong(silo):
    place, _ = silo
    (place / "node.key").chmod(0o640)
    assert what_is_wrong(place) == f"{place}/node.key has mode 0640: others can read it; chmod 600 {place}/node.key"
    (place / "node.key").chmod(0o600)
    foreign = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.OpenSSH
    pem = serialization.Encoding.PEM
    (place / "node.key").write_bytes(foreign.private_bytes(pem, form, serialization.NoEncryption()))
    assert "an ECDSA key on P-384 is needed" in what_is_wrong(place)
    pkcs8 = serialization.PrivateFormat.PKCS8
    (place / "node.key").write_bytes(foreign.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"x")))
    assert "is no OpenSSH private key without a passphrase" in what_is_wrong(place)
    (place / "node.key").unlink()
    assert "`fedlaw join NAME` in this folder makes it" in what_is_wrong(place)


def test_containers_that_could_not_read_the_key_are_wrong(silo):
    place, _ = silo
    (place / ".env").write_text("FEDLAW_USER=54321:54321\n")
    assert "the containers run as user 54321 and cannot read" in what_is_wrong(place)
    (place / ".env").write_text("FEDLAW_USER=0:0\n")
    assert "lets the containers run as root" in what_is_wrong(place)
    (place / "compose.yml").unlink()  # without containers nobody else reads it
    assert "wrong" not in kinds(inspect_silo(place / "silo.yaml", online=False))


def test_a_missing_authority_data_policy_and_release_are_wrong_each_by_itself(silo):
    place, _ = silo
    authority = (place / "ca.crt").read_bytes()
    (place / "ca.crt").unlink()
    assert "it comes with the bundle" in what_is_wrong(place)
    (place / "ca.crt").write_text("nothing")
    assert "ca.crt is no certificate" in what_is_wrong(place)
    (place / "ca.crt").write_bytes(authority)
    own = (place / "silo.yaml").read_text()
    change(place / "silo.yaml", f"data-path: {place.parent}", "data-path: /srv/nowhere")
    assert what_is_wrong(place) == "data-path='/srv/nowhere' is not on this machine"
    (place / "silo.yaml").write_text(own)
    change(place / "silo.yaml", f"flwr: '{release_of(installed())}'", "flwr: '1.40'")
    assert "install flwr 1.40.*" in what_is_wrong(place)
    (place / "silo.yaml").write_text(own)
    (place / "policy.yaml").write_text("exchanges-per-dya: 7\n")
    assert "exchanges-per-dya: there is no such key" in what_is_wrong(place)


def test_a_silo_sees_a_server_that_is_not_the_federation_s_and_one_it_cannot_reach(silo, make, tmp_path):
    place, _ = silo
    other = FederationFolder(tmp_path / "other")
    init(make(host="localhost")[0], other)
    with listening(other) as port:
        foreign = inspect_silo(place / "silo.yaml", server=f"localhost:{port}")
    assert foreign[-1].kind == "wrong" and "a certificate that is not this federation's" in foreign[-1].what
    assert "localhost:1 cannot be reached" in inspect_silo(place / "silo.yaml")[-1].what
    (place / "compose.yml").unlink()
    assert inspect_silo(place / "silo.yaml")[-1].kind == "note"
    with pytest.raises(ValueError, match="server='localhost': HOST:PORT is expected"):
        inspect_silo(place / "silo.yaml", server="localhost")
