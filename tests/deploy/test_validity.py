"""Certificates that have ended or not begun: said before a server is started, with the date and what renews them."""

import re
import shutil
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from stand_ins import stand_in_federation
from typer.testing import CliRunner

from fedlaw_flwr.cli.main import app
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.deploy.certificates import must_be_trusted
from fedlaw_flwr.deploy.containers import Containers
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.local import LocalFederation
from fedlaw_flwr.deploy.network import answers, server_port
from fedlaw_flwr.deploy.preparation import init
from fedlaw_flwr.simulation.processes import free_port


@pytest.fixture
def local(tmp_path, monkeypatch):
    """A federation whose processes are stand-ins, ended after the test."""
    local = stand_in_federation(tmp_path, monkeypatch, free_port(), {})
    yield local
    local.down()


def make_anew(local: LocalFederation, monkeypatch, days: int, *, authority: bool = False) -> None:
    """Replaces the server's certificate, and the CA's, by one made so many days from now."""

    class Then(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=days)

    gone = [local.folder.server_certificate, local.folder.server_key]
    for path in [*gone, *([local.folder.ca_certificate, local.folder.ca_key] if authority else [])]:
        path.unlink()
    with monkeypatch.context() as then:
        then.setattr("fedlaw_flwr.deploy.certificates.datetime", Then)
        init(local.federation, local.folder)


def ends(path: Path) -> str:
    return f"{x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc:%Y-%m-%d %H:%M UTC}"


def test_a_good_certificate_is_passed_over_up_to_its_last_day(local):
    must_be_trusted(local.federation, local.folder)
    must_be_trusted(local.federation, local.folder, datetime.now(UTC) + timedelta(days=364))


def test_up_says_which_certificate_expired_when_and_what_renews_it_and_starts_nothing(local, monkeypatch, tmp_path):
    make_anew(local, monkeypatch, -400)
    result = CliRunner().invoke(app, ["deploy", "local", "up", str(tmp_path / "federation.yaml")])
    said = str(result.exception)
    assert isinstance(result.exception, InputError)
    assert (
        f"the server's certificate expired 35 days ago, on {ends(local.folder.server_certificate)}: to renew it" in said
    )
    assert not [name for name in local.names if local.pid(name)]
    # The commands are those that renew it.
    away, again = re.findall("`(.*?)`", said)
    assert again == f"fedlaw deploy init {tmp_path / 'federation.yaml'}"
    program, *paths, target = away.split()
    assert (program, target) == ("mv", "ELSEWHERE/")
    for path in paths:
        shutil.move(path, tmp_path)
    assert CliRunner().invoke(app, again.split()[1:]).exit_code == 0
    local.up()


def test_init_says_that_what_it_keeps_has_expired(local, monkeypatch, tmp_path):
    make_anew(local, monkeypatch, -400)
    local.folder.ca_key.rename(tmp_path / "ca.key")
    told = CliRunner().invoke(app, ["deploy", "init", str(tmp_path / "federation.yaml")], env={"COLUMNS": "400"})
    assert told.exit_code == 0 and "the server's certificate expired 35 days ago" in told.output
    assert f"put ca.key back into {local.folder.path}, then" in told.output


def test_an_expired_authority_is_named_as_such(local, monkeypatch):
    make_anew(local, monkeypatch, -3660, authority=True)
    with pytest.raises(InputError) as caught:
        must_be_trusted(local.federation, local.folder)
    first, second = str(caught.value).splitlines()
    assert first.startswith(
        f"the CA's certificate expired 10 days ago, on {ends(local.folder.ca_certificate)}: move ca.*"
    )
    assert "give every silo the new ca.crt" in first and second.startswith("the server's certificate expired")


def test_a_certificate_of_the_future_blames_the_clock(local, monkeypatch):
    make_anew(local, monkeypatch, 3)
    with pytest.raises(
        InputError, match=r"the server's certificate is not valid yet, but from \d{4}-.* UTC on: this mach"
    ):
        local.up()


@pytest.mark.parametrize("broken", ["ca.crt", "server.crt", "server.key"])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_that_is_no_certificate_or_key_is_named(local, broken, content):
    (local.folder.path / broken).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(local.folder.path / broken)) + " is no "):
        must_be_trusted(local.federation, local.folder)


def test_a_server_s_key_with_a_passphrase_and_a_missing_file_are_sentences(local):
    key = serialization.load_pem_private_key(local.folder.server_key.read_bytes(), None)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    local.folder.server_key.write_bytes(key.private_bytes(pem, form, serialization.BestAvailableEncryption(b"secret")))
    with pytest.raises(InputError, match=r"server\.key is no private key in PEM without a passphrase"):
        must_be_trusted(local.federation, local.folder)
    local.folder.server_key.unlink()
    with pytest.raises(InputError, match=r"server\.key is missing: `fedlaw deploy init "):
        must_be_trusted(local.federation, local.folder)


def test_neither_containers_nor_a_run_are_started_with_an_expired_certificate(local, monkeypatch):
    local.up()
    make_anew(local, monkeypatch, -400)
    containers = Containers(local.federation, local.folder)
    for start in (containers.up, lambda: containers.run(print), lambda: local.run(print)):
        with pytest.raises(InputError, match="the server's certificate expired 35 days ago"):
            start()


@pytest.fixture
def shows(local):
    """Listens on loopback with the server's certificate of a folder; the port."""
    listeners = []

    def listen(folder: FederationFolder) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder.server_certificate, folder.server_key)
        listener = socket.create_server(("", 0))
        listeners.append(listener)

        def serve():
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(plain, server_side=True).close()
                except OSError:
                    plain.close()

        threading.Thread(target=serve, daemon=True).start()
        return listener.getsockname()[1]

    yield listen
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_preflight_tells_an_expired_certificate_from_a_stranger_s_and_a_name_it_does_not_hold(
    local, monkeypatch, shows, tmp_path
):
    make_anew(local, monkeypatch, -400)
    port = shows(local.folder)
    (reached,) = answers("127.0.0.1", port, local.folder.ca_certificate)
    assert "a certificate that is refused: certificate has expired; renew it" in reached.what
    held = server_port("127.0.0.1", port, local.folder.ca_certificate)
    assert "held by a server whose certificate is refused: certificate has expired" in held.what
    make_anew(local, monkeypatch, 0)
    (other_name,) = answers("127.0.0.2", shows(local.folder), local.folder.ca_certificate)
    assert (
        "is refused: IP address mismatch" in other_name.what and "add the address to also-known-as" in other_name.what
    )
    other = FederationFolder(tmp_path / "other")
    init(local.federation, other)
    (stranger,) = answers("127.0.0.1", shows(other), local.folder.ca_certificate)
    assert "a certificate that is not this federation's" in stranger.what
