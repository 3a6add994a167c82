"""`superlink.host`: a name or an address is taken as a certificate spells it; anything around it is one sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlaw_flwr.config.document import DocumentError
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.deploy.certificates import check_certificates
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.hostname import host
from fedlaw_flwr.deploy.preparation import init
from fedlaw_flwr.deploy.silo_preflight import inspect_silo

TEXT = """\
name: clinics
superlink:
  host: %s
  also-known-as: [%s]
run: {max-byzantine: 0}
silos: [{name: aachen}, {name: bonn}]
"""
PORT = "and the port in a line of its own (port: 9443)"


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("localhost", "localhost"),
        ("FL.Example.ORG", "fl.example.org"),
        ("fl", "fl"),
        ("xn--kln-sna.example.org", "xn--kln-sna.example.org"),
        ("9lives.example.org", "9lives.example.org"),
        ("10.0.0.7", "10.0.0.7"),
        ("::1", "::1"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("a" * 63 + ".org", "a" * 63 + ".org"),
    ],
)
def test_names_and_addresses_are_taken(text, taken):
    assert host(text) == taken


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("localhost:9443", f"{PORT}: localhost"),
        ("10.0.0.7:9443", f"{PORT}: 10.0.0.7"),
        ("[::1]:9443", f"without brackets, {PORT}: ::1"),
        ("[::1]", "without brackets: ::1"),
        ("https://fl.example.org", "without a scheme, a user or a path: fl.example.org"),
        ("https://fl.example.org:9443/", f"without a scheme, a user or a path, {PORT}: fl.example.org"),
        ("fl.example.org/fleet", "without a scheme, a user or a path: fl.example.org"),
        ("operator@fl.example.org", "without a scheme, a user or a path: fl.example.org"),
        ("fl.example.org ", "a space or an invisible character"),
        ("fl example.org", "a space or an invisible character"),
        ("fl.example\u200b.org", "a space or an invisible character"),
        ("fl_server", "an underscore is not allowed"),
        ("fl.example.org.", "without a dot at its end: fl.example.org"),
        ("fl..org", "'' is no part of a host's name"),
        ("-fl.org", "'-fl' is no part of a host's name"),
        ("a" * 64 + ".org", "63 at most"),
        (".".join(["a" * 60] * 5), "at most 253 characters, and this has 304"),
        ("*.example.org", "a wildcard is none"),
        ("köln.example.org", "names in ASCII: xn--kln-sna.example.org"),
        ("ko\u0308ln.example.org", "names in ASCII: xn--kln-sna.example.org"),
        ("10.0.0", "no IPv4 address"),
        ("10.0.0.256", "no IPv4 address"),
        ("010.0.0.7", "no IPv4 address"),
        ("2001:db8::12345", "no IPv6 address"),
        ("0.0.0.0", "no silo can call this address"),
        ("::", "no silo can call this address"),
        ("fe80::1%eth0", "an address with a zone (%eth0)"),
        ("", "by which silos reach the server is expected"),
    ],
)
def test_what_is_no_host_is_one_sentence_with_its_line_and_makes_no_certificate(tmp_path, text, said):
    with pytest.raises(InputError) as caught:
        host(text)
    assert said in str(caught.value)
    file = tmp_path / "federation.yaml"
    for line, content in ((3, TEXT % (f'"{text}"', "")), (4, TEXT % ("localhost", f'"{text}"'))):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(DocumentError) as refused:
            Federation.read(file)
        assert f"federation.yaml:{line}: superlink." in str(refused.value)
        assert said[1:] in str(refused.value)  # a sentence there begins with a small letter


@given(st.text(max_size=12) | st.from_regex(r"[a-zA-Z0-9.:\[\]_%/@-]{0,20}", fullmatch=True))
def test_whatever_is_written_is_a_host_or_a_sentence_and_a_host_stays_what_it_is(text):
    try:
        taken = host(text)
    except InputError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert host(taken) == taken and taken.isascii()


def test_an_ipv6_address_is_in_the_certificate_however_it_was_spelt(tmp_path):
    file = tmp_path / "federation.yaml"
    file.write_text(TEXT % ('"2001:DB8:0::7"', "FL.example.org"))
    federation = Federation.read(file)
    folder = FederationFolder.beside(file, federation.name)
    init(federation, folder)
    assert all(finding.ok for finding in check_certificates(federation, folder))


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("localhost", "HOST:PORT is expected"),
        ("localhost:https", "HOST:PORT is expected"),
        ("localhost:70000", "HOST:PORT is expected"),
        ("::1:9443", r"an IPv6 address in brackets: \[::1\]:9443"),
        ("https://localhost:9443", "without a scheme, a user or a path: localhost"),
        ("local_host:9443", "an underscore is not allowed"),
    ],
)
def test_a_server_that_a_silo_names_is_looked_at_alike(tmp_path, server, said):
    (tmp_path / "silo.yaml").write_text("name: aachen\n")
    with pytest.raises(InputError, match=f"server='.*{said}"):
        inspect_silo(tmp_path / "silo.yaml", server=server)
