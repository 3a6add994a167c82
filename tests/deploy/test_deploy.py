"""From federation.yaml to certificates, keys, package and bundle: what is made, kept and refused."""

import re
import stat
import subprocess
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
import typer
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from typer.testing import CliRunner

from fedlaw_flwr.cli.main import app
from fedlaw_flwr.config.document import DocumentError
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.core.flower import installed, release_of
from fedlaw_flwr.deploy.certificates import check_certificates, fingerprint, load_public_key
from fedlaw_flwr.deploy.control import as_toml
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.package import run_config
from fedlaw_flwr.deploy.preflight import feasibility, inspect, node_keys, private_modes
from fedlaw_flwr.deploy.preparation import accept, forget_replaced, init, join, render, rotate
from fedlaw_flwr.silo.config import SiloConfig
from fedlaw_flwr.silo.packages import own_digest
from fedlaw_flwr.silo.policy import Policy

TEXT = """\
name: clinics
superlink:
  host: fl.example.org
  port: 9443
  also-known-as: [10.0.0.7, fl.internal]
run:
  num-rounds: 3
  max-byzantine: 1
silos:
  - name: aachen
  - name: bonn
    task: breast_cancer
  - name: celle
  - name: dresden
    attack: sign_flip
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "federation.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def federation(file):
    return Federation.read(file)


@pytest.fixture
def folder(file, federation):
    return FederationFolder.beside(file, federation.name)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("was", "wrong", "line", "sentence"),
    [
        ("  port: 9443", "  prot: 9443", 4, "superlink.prot: there is no such key; did you mean 'port'?"),
        ("  port: 9443", "  port: 70000", 4, "superlink.port=70000"),
        ("name: clinics", "name: Our Clinics", 1, "lower-case letters, digits and hyphens"),
        ("  - name: bonn", "  - name: aachen", 10, "aachen names 2 silos"),
        ("    task: breast_cancer", "    task: brest_cancer", 12, "task='brest_cancer': allowed are digits"),
        ("    attack: sign_flip", "    attack: sing_flip", 15, "attack='sing_flip': allowed are"),
        ("  num-rounds: 3", "  num-rounds: 2.5", 7, "num-rounds=2.5"),
        ("  num-rounds: 3", "  attack: lie", 7, "a run configuration never makes a real silo attack"),
        ("  max-byzantine: 1", "  max-byzantine: 2", 8, "2b+2 <= n is needed"),
        ("  max-byzantine: 1", "  max-byzantine: 1\n  strategy: bulyan", 9, "bulyan with f=1 needs n >= 4f + 3 = 7"),
        ("  max-byzantine: 1", "  bta: 1", 8, "bta: there is no such setting; did you mean 'beta'?"),
        ("run:", "name: other\nrun:", 6, "name is said twice, first in line 1"),
        ("silos:", "silos: [", 10, "no YAML"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_line(file, was, wrong, line, sentence):
    file.write_text(TEXT.replace(was, wrong, 1))
    with pytest.raises(DocumentError) as caught:
        Federation.read(file)
    told = str(caught.value)
    assert sentence in told
    if sentence != "no YAML":
        assert f"{file}:{line}: " in told


def test_a_missing_file_and_a_list_are_told_as_such(tmp_path):
    with pytest.raises(DocumentError, match="cannot be read"):
        Federation.read(tmp_path / "no.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(DocumentError, match=r"list.yaml:1: a mapping of these keys is expected: name, superlink, run"):
        Federation.read(tmp_path / "list.yaml")


def test_the_silos_own_file_carries_its_task_share_and_drill(federation):
    bonn, dresden = federation.silo_config("bonn"), federation.silo_config("dresden")
    assert (bonn.task, bonn.partition_id, bonn.num_partitions, bonn.app) == (
        "breast_cancer",
        1,
        4,
        "fedlaw_flwr.apps.deployed:app",
    )
    assert (dresden.attack, dresden.app) == ("sign_flip", "fedlaw_flwr.apps.byzantine.drill:app")
    assert federation.settings().drills == "dresden:sign_flip"
    assert federation.settings().known_attacks() == {"dresden": "sign_flip"}


def test_init_makes_a_chain_that_openssl_accepts_for_every_name(federation, folder):
    init(federation, folder)
    verified = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", folder.ca_certificate, folder.server_certificate],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr
    server = x509.load_pem_x509_certificate(folder.server_certificate.read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {
        "fl.example.org",
        "fl.internal",
        "localhost",
        "superlink",
        "proxy",
    }
    assert {str(ip) for ip in names.get_values_for_type(x509.IPAddress)} == {"10.0.0.7", "127.0.0.1"}
    use = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(use) == [ExtendedKeyUsageOID.SERVER_AUTH]
    authority = x509.load_pem_x509_certificate(folder.ca_certificate.read_bytes())
    limits = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert limits.ca and limits.path_length == 0


def test_init_makes_no_silos_key_unless_it_is_a_drill(federation, folder):
    init(federation, folder)
    assert not list(folder.path.glob("silos/*/node.*"))
    init(federation, folder, drill=True)
    assert len(list(folder.path.glob("silos/*/node.key"))) == 4


def test_private_files_are_their_owners_alone(federation, folder):
    init(federation, folder, drill=True)
    private = [folder.ca_key, folder.server_key, *(folder.private_key(s.name) for s in federation.silos)]
    assert [mode(path) for path in private] == [0o600] * len(private)
    assert private_modes(folder)[0].ok
    folder.server_key.chmod(0o640)
    (finding,) = private_modes(folder)
    assert not finding.ok and f"chmod 600 {folder.server_key}" in finding.what


def test_init_again_touches_nothing(federation, folder):
    init(federation, folder, drill=True)
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    done = init(federation, folder, drill=True)
    assert not done.made
    assert before == {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


def test_an_authority_whose_certificate_alone_is_lost_is_not_replaced(federation, folder):
    init(federation, folder)
    folder.ca_certificate.unlink()
    with pytest.raises(FileExistsError, match=r"ca\.key is there without ca\.crt: put ca\.crt back"):
        init(federation, folder)
    folder.ca_key.unlink()
    with pytest.raises(FileExistsError, match=r"server\.crt is there without ca\.crt"):
        init(federation, folder)


def test_the_authority_s_key_is_needed_to_sign_and_for_nothing_else(file, federation, folder, tmp_path):
    init(federation, folder)
    folder.ca_key.rename(tmp_path / "ca.key")
    done = init(federation, folder, drill=True)
    assert folder.ca_certificate in done.kept and folder.ca_key not in done.kept
    assert all(finding.ok for finding in check_certificates(federation, folder))
    for path in (folder.server_certificate, folder.server_key):
        path.unlink()
    told = CliRunner().invoke(app, ["deploy", "init", str(file)]).exception
    assert isinstance(told, FileNotFoundError) and "ca.key is needed to sign the server's certificate" in str(told)
    (tmp_path / "ca.key").rename(folder.ca_key)
    assert init(federation, folder).made == [folder.server_certificate, folder.server_key]
    assert all(finding.ok for finding in check_certificates(federation, folder))


def test_another_authority_s_key_signs_nothing(federation, folder, tmp_path):
    init(federation, folder)
    other = FederationFolder(tmp_path / "other")
    init(federation, other)
    folder.ca_key.write_bytes(other.ca_key.read_bytes())
    for path in (folder.server_certificate, folder.server_key):
        path.unlink()
    with pytest.raises(ValueError, match=r"ca\.key is not the key of ca\.crt beside it"):
        init(federation, folder)


@pytest.mark.parametrize("lost", ["server.crt", "server.key"])
def test_half_a_server_s_certificate_is_one_sentence(federation, folder, lost):
    init(federation, folder)
    (folder.path / lost).unlink()
    with pytest.raises(FileExistsError, match=r"server\.(crt|key) is there without its partner: put that back"):
        init(federation, folder)


@pytest.mark.parametrize("first", ["accept", "render", "init"])
def test_the_folder_is_its_owner_s_alone_whatever_makes_it(federation, folder, tmp_path, first):
    _, sent = join("aachen", tmp_path / "sent")
    {
        "accept": lambda: accept(federation, folder, "aachen", sent),
        "render": lambda: render(federation, folder),
        "init": lambda: init(federation, folder),
    }[first]()
    made = [folder.path, *(path for path in folder.path.rglob("*") if path.is_dir())]
    assert [mode(path) for path in made] == [0o700] * len(made)


def test_a_silos_key_is_the_one_ssh_keygen_would_show(tmp_path):
    private, public = join("aachen", tmp_path)
    shown = subprocess.run(["ssh-keygen", "-l", "-f", public], capture_output=True, text=True, check=False)
    if shown.returncode:
        pytest.skip("no ssh-keygen here to hold the fingerprint against")
    assert fingerprint(public) in shown.stdout and "ECDSA" in shown.stdout
    derived = subprocess.run(["ssh-keygen", "-y", "-f", private], capture_output=True, text=True, check=True)
    assert derived.stdout.split()[:2] == public.read_text().split()[:2]
    assert mode(private) == 0o600


def test_join_never_overwrites_a_key(tmp_path):
    private, _ = join("aachen", tmp_path)
    before = private.read_bytes()
    with pytest.raises(FileExistsError, match="there already"):
        join("aachen", tmp_path)
    assert private.read_bytes() == before


def test_accept_takes_a_key_once_and_from_one_silo_only(federation, folder, tmp_path):
    _, sent = join("aachen", tmp_path / "a")
    _, other = join("aachen", tmp_path / "b")
    place = accept(federation, folder, "aachen", sent)
    assert load_public_key(place) == load_public_key(sent)
    assert accept(federation, folder, "aachen", sent) == place
    with pytest.raises(FileExistsError, match="rotate"):
        accept(federation, folder, "aachen", other)
    with pytest.raises(ValueError, match="key of aachen already"):
        accept(federation, folder, "bonn", sent)
    with pytest.raises(ValueError, match=r"federation\.yaml names aachen, bonn"):
        accept(federation, folder, "essen", other)


def test_accept_refuses_a_private_key_and_a_foreign_kind(federation, folder, tmp_path):
    private, _ = join("aachen", tmp_path)
    with pytest.raises(ValueError, match="must never leave its silo"):
        accept(federation, folder, "aachen", private)
    rsa = tmp_path / "rsa.pub"
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate().public_key()
    rsa.write_bytes(key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH))
    with pytest.raises(ValueError, match="P-384"):
        accept(federation, folder, "aachen", rsa)


def test_rotate_replaces_one_silos_key_and_keeps_the_old_one(federation, folder, tmp_path):
    init(federation, folder, drill=True)
    others = {name: folder.public_key(name).read_bytes() for name in ("bonn", "celle", "dresden")}
    before = folder.public_key("aachen").read_bytes()
    old = rotate(federation, folder, "aachen", None)
    assert old.read_bytes() == before != folder.public_key("aachen").read_bytes()
    assert others == {name: folder.public_key(name).read_bytes() for name in others}
    _, sent = join("aachen", tmp_path / "new")
    rotate(federation, folder, "aachen", sent)
    assert load_public_key(folder.public_key("aachen")) == load_public_key(sent)
    assert folder.here(["aachen", "bonn"]) == ["bonn"]  # its private key is where it was made


def test_a_rotation_that_is_refused_or_breaks_off_leaves_the_pair_in_place(federation, folder, monkeypatch):
    init(federation, folder, drill=True)
    before = {path.name: path.read_bytes() for path in folder.silo("aachen").iterdir()}
    with pytest.raises(ValueError, match="key of bonn already"):
        rotate(federation, folder, "aachen", folder.public_key("bonn"))
    assert before == {path.name: path.read_bytes() for path in folder.silo("aachen").iterdir()}

    def full(path, content):
        raise OSError("No space left on device")

    monkeypatch.setattr("fedlaw_flwr.deploy.certificates.write_new", full)  # the private half is written by then
    with pytest.raises(OSError, match="No space left"):
        rotate(federation, folder, "aachen", None)
    assert before == {path.name: path.read_bytes() for path in folder.silo("aachen").iterdir()}


def test_a_replaced_key_is_looked_at_while_it_is_kept_and_deleted_when_it_is_off_the_server(federation, folder):
    init(federation, folder, drill=True)
    rotate(federation, folder, "aachen", None)
    rotate(federation, folder, "aachen", None)
    old = folder.replaced("aachen")
    assert sorted(path.name.partition(".until-")[0] for path in old) == ["node.key"] * 2 + ["node.pub"] * 2
    (private,) = [path for path in old if path.name.startswith("node.key")][:1]
    private.chmod(0o644)
    assert [finding.what for finding in private_modes(folder) if not finding.ok] == [
        f"{private} has mode 0644: others can read it; chmod 600 {private}"
    ]
    assert forget_replaced(folder, "aachen") == old
    assert sorted(path.name for path in folder.silo("aachen").iterdir()) == ["node.key", "node.pub"]


def test_the_compose_file_has_the_server_and_the_silos_whose_private_key_is_here(federation, folder, tmp_path):
    init(federation, folder)
    _, sent = join("aachen", tmp_path)
    accept(federation, folder, "aachen", sent)
    render(federation, folder)
    server = {"superlink", "server-app", "proxy", "metrics"}
    assert services(folder) == server
    assert "node.key" not in (folder.path / "compose.yml").read_text()
    init(federation, folder, drill=True)  # aachen's key was made on its own machine and stays there
    render(federation, folder)
    own = {f"{silo}-{part}" for silo in ("bonn", "celle", "dresden") for part in ("node", "app", "data")}
    assert services(folder) == server | own


def services(folder: FederationFolder) -> set[str]:
    return set(yaml.safe_load((folder.path / "compose.yml").read_text())["services"])


def test_render_again_changes_nothing_and_an_edit_changes_what_it_says(file, federation, folder):
    init(federation, folder)
    assert render(federation, folder)
    assert render(federation, folder) == []
    file.write_text(TEXT.replace("num-rounds: 3", "num-rounds: 7"))
    assert render(Federation.read(file), folder) == []  # told when a run is submitted, and to nobody before
    file.write_text(TEXT.replace("    task: breast_cancer", "    task: digits"))
    assert render(Federation.read(file), folder) == [folder.silo("bonn") / "silo.yaml"]


def test_render_writes_a_silos_policy_once_and_never_again(federation, folder):
    init(federation, folder)
    render(federation, folder)
    policy = folder.silo("bonn") / "policy.yaml"
    assert Policy.read(policy) == Policy()
    policy.write_text("exchanges-per-day: 7\n")
    assert render(federation, folder) == []
    assert Policy.read(policy).exchanges_per_day == 7


def test_every_line_of_the_first_policy_is_allowed_once_its_comment_sign_is_off(federation, folder, tmp_path):
    render(federation, folder)
    lines = (folder.silo("bonn") / "policy.yaml").read_text().splitlines()
    shown = [line.removeprefix("# ") if re.match(r"# +[a-z-]+:", line) else line for line in lines]
    (tmp_path / "policy.yaml").write_text("\n".join(shown))
    policy = Policy.read(tmp_path / "policy.yaml")
    assert {name for name in Policy.model_fields if getattr(policy, name) == getattr(Policy(), name)} == {
        "message_types"
    }
    assert policy.privacy is not None and policy.privacy.delta == 1e-5


def test_two_federations_render_the_same_package(federation, folder, tmp_path):
    text = TEXT.replace("name: clinics", "name: others").replace("  num-rounds: 3", "  num-rounds: 9\n  beta: 0.5")
    (tmp_path / "others.yaml").write_text(text)
    others = FederationFolder(tmp_path / "others")
    render(federation, folder)
    render(Federation.read(tmp_path / "others.yaml"), others)
    one, other = (
        {path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        for place in (folder.package, others.package)
    )
    assert one == other and len(one) == 4


def test_a_run_is_submitted_with_what_the_federation_changes_of_the_packages_defaults(federation):
    from flwr.common.config import parse_config_args

    defaults = Settings().as_config()
    told = run_config(federation, {"buffers": """(^|\\.)"it's"$ {a b} = ü🙂\t""", "rfa-nu": 1e-7})
    assert {key for key in told if key not in ("buffers", "rfa-nu")} == {
        *("num-rounds", "max-byzantine", "num-silos", "drills"),
    }
    # As Flower's own command reads what `Control.submit` writes.
    text = " ".join(f"{key}={as_toml(value)}" for key, value in told.items())
    assert parse_config_args([text]) == told
    assert Settings.read({**defaults, **told}) == federation.settings(
        {"buffers": told["buffers"], "rfa-nu": told["rfa-nu"]}
    )


def test_the_package_is_two_fixed_modules_and_the_default_of_every_setting(federation, folder):
    import tomllib

    from fedlaw_flwr.apps.shipped import client as shipped_client
    from fedlaw_flwr.apps.shipped import server as shipped_server

    render(federation, folder)
    app_folder = folder.package
    assert (app_folder / "fedlaw_deployed" / "client.py").read_text() == shipped_client.SOURCE.read_text()
    assert (app_folder / "fedlaw_deployed" / "server.py").read_text() == shipped_server.SOURCE.read_text()
    tool = tomllib.loads((app_folder / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert tool["config"] == Settings().as_config()
    assert tool["components"] == {"serverapp": "fedlaw_deployed.server:app", "clientapp": "fedlaw_deployed.client:app"}


def test_what_ships_to_a_silo_needs_flower_and_the_standard_library_alone(federation, folder):
    render(federation, folder)
    check = (
        "import sys; import fedlaw_deployed.client as c; "
        "assert 'torch' not in sys.modules and 'fedlaw_flwr' not in sys.modules; print(type(c.app).__name__)"
    )
    import sys

    done = subprocess.run(
        [sys.executable, "-c", check], cwd=folder.package, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "ClientApp", done.stderr


def test_the_rendered_silo_file_reads_back_as_the_silos_configuration(federation, folder):
    render(federation, folder)
    for silo in federation.silos:
        policy = str(folder.silo(silo.name) / "policy.yaml")
        expected = federation.silo_config(silo.name).model_copy(update={"policy": policy})
        assert SiloConfig.read(folder.silo(silo.name) / "silo.yaml") == expected


def test_the_status_of_a_federation_that_is_down_says_how_to_start_it(file, federation, folder):
    init(federation, folder, drill=True)
    told = CliRunner().invoke(app, ["deploy", "local", "status", str(file)])
    assert told.exit_code == 0, told.output
    assert f"the federation is down; `fedlaw deploy local up {file}` starts it" in told.output.replace("\n", " ")
    assert told.output.count("not running") == len(federation.silos) * 3 + 2


def test_a_bundle_holds_no_key_and_nothing_of_another_silo(file, federation, folder):
    init(federation, folder, drill=True)
    done = CliRunner().invoke(app, ["deploy", "bundle", str(file), "bonn"])
    assert done.exit_code == 0, done.output
    with tarfile.open(folder.path / "bundles" / "bonn.tar.gz") as archive:
        content = {name.partition("/")[2]: archive.extractfile(name).read().decode() for name in archive.getnames()}
    assert sorted(content) == ["README.md", "ca.crt", "compose.yml", "policy.yaml", "silo.yaml"]
    assert own_digest() in content["README.md"]
    assert f"--build-arg FLWR='flwr=={release_of(installed())}.*'" in content["README.md"]
    everything = "\n".join(content.values())
    assert "PRIVATE KEY" not in everything
    for other in ("aachen", "celle", "dresden"):
        assert other not in everything
    assert content["ca.crt"] == folder.ca_certificate.read_text()


def test_the_same_bundle_is_the_same_bytes(federation, folder):
    from fedlaw_flwr.deploy.bundle import write_bundle

    init(federation, folder)
    first = Path(write_bundle(federation, folder, "bonn")).read_bytes()
    assert Path(write_bundle(federation, folder, "bonn")).read_bytes() == first


def test_preflight_sees_expiry_lost_names_foreign_authorities_and_foreign_keys(file, federation, folder, tmp_path):
    init(federation, folder)
    assert all(finding.ok for finding in check_certificates(federation, folder))
    late = check_certificates(federation, folder, datetime.now(UTC) + timedelta(days=350))
    assert next(f.what for f in late if not f.ok).startswith("the server's certificate is valid for 14 more days")
    over = check_certificates(federation, folder, datetime.now(UTC) + timedelta(days=400))
    assert any("expired 35 days ago" in f.what for f in over)
    file.write_text(TEXT.replace("fl.internal", "fl.other"))
    lacking = check_certificates(Federation.read(file), folder)
    assert any("does not hold fl.other" in f.what for f in lacking if not f.ok)
    other = FederationFolder(tmp_path / "other")
    init(federation, other)
    folder.ca_certificate.write_bytes(other.ca_certificate.read_bytes())
    assert any("was not signed by" in f.what for f in check_certificates(federation, folder) if not f.ok)
    folder.server_key.write_bytes(other.server_key.read_bytes())
    assert any("do not belong together" in f.what for f in check_certificates(federation, folder) if not f.ok)


def test_preflight_names_silos_without_a_key_and_two_with_one(federation, folder):
    assert [finding.ok for finding in node_keys(federation, folder)] == [False] * 4
    init(federation, folder, drill=True)
    assert node_keys(federation, folder)[0].ok
    folder.public_key("bonn").write_bytes(folder.public_key("aachen").read_bytes())
    same, alone = node_keys(federation, folder)
    assert "bonn and aachen have one key" in same.what
    assert "bonn/node.key does not belong to the node.pub beside it" in alone.what


def test_preflight_refuses_more_drills_than_the_run_withstands(file):
    file.write_text(TEXT.replace("  - name: celle", "  - name: celle\n    attack: ipm"))
    finding = feasibility(Federation.read(file))
    assert not finding.ok and "2 silos attack in drills and max-byzantine=1" in finding.what


def test_preflight_says_when_nobody_listens(file, federation, folder):
    init(federation, folder, drill=True)
    file.write_text(TEXT.replace("fl.example.org", "127.0.0.1").replace("9443", "1"))
    findings = inspect(Federation.read(file), folder)
    assert not findings[-1].ok and "127.0.0.1:1 cannot be reached" in findings[-1].what
    result = CliRunner().invoke(app, ["preflight", str(file)])
    assert result.exit_code == 1 and "WRONG" in result.output


def test_every_command_on_the_operators_page_exists():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "deploy.md").read_text()
    group = typer.main.get_command(app)
    named = re.findall(r"(?:^|`|&& )fedlaw ((?:[a-z-]+ ?)+)", page, re.M)
    assert len(named) > 30
    for words in (line.split() for line in named):
        command = group
        while words and isinstance(command, click.Group):
            assert words[0] in command.commands, f"fedlaw {' '.join(words)}"
            command = command.commands[words.pop(0)]
        assert not isinstance(command, click.Group)


def test_one_run_may_change_settings_but_not_what_the_federation_says(federation):
    assert federation.settings({"num-rounds": 9}).num_rounds == 9
    with pytest.raises(ValueError, match="attack cannot be set: a run configuration never makes a real silo attack"):
        federation.changed({"attack": "lie"})
    with pytest.raises(ValueError, match="num-rounds=0"):
        federation.changed({"num-rounds": 0})


def test_prune_removes_old_runs_and_nothing_else(tmp_path):
    import os
    import time

    from fedlaw_flwr.deploy.retention import prune

    for name, days in (("run-1", 100), ("run-2", 10), ("notes", 500)):
        (tmp_path / name).mkdir()
        log = tmp_path / name / "events.jsonl"
        log.write_text("{}\n")
        os.utime(log, (time.time() - 86400 * days,) * 2)
    assert prune(tmp_path, 90) == [tmp_path / "run-1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "run-2"]
