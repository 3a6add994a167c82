"""The guard in the place of `flwr-clientapp`: a package that is not allowed is refused before it is unpacked."""

import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.cli.install import install_from_fab
from flwr.supercore.constant import TASK_TYPE_TO_COMMAND, TaskType
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
from flwr.supercore.superexec.executor.types import ExecutionSpec

from fedlaw_flwr.deploy.package import render_package
from fedlaw_flwr.silo import guard
from fedlaw_flwr.silo.guard import PACKAGES, PackageRefused, guarded, install_guard
from fedlaw_flwr.silo.packages import digest, own_digest

PYPROJECT = """\
[project]
name = "nice"
version = "1.0.0"
dependencies = []
[tool.flwr.app]
publisher = "fedlaw"
fab-include = ["nice/*.py"]
[tool.flwr.app.components]
serverapp = "nice.client:server"
clientapp = "nice.client:app"
[tool.flwr.app.config]
"""


@pytest.fixture
def hostile(tmp_path) -> bytes:
    """A bundle that leaves a file behind as soon as it is imported."""
    place = tmp_path / "nice"
    (place / "nice").mkdir(parents=True)
    (place / "pyproject.toml").write_text(PYPROJECT)
    (place / "nice" / "__init__.py").write_text("")
    (place / "nice" / "client.py").write_text(
        "from pathlib import Path\nfrom flwr.clientapp import ClientApp\nfrom flwr.serverapp import ServerApp\n"
        f"Path({str(tmp_path / 'canary')!r}).touch()\napp = ClientApp()\nserver = ServerApp()\n"
    )
    return build_fab_from_disk(place)


@pytest.fixture
def own(tmp_path) -> bytes:
    render_package(tmp_path / "own")
    return build_fab_from_disk(tmp_path / "own")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """Where Flower unpacks packages."""
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def unpacked(home: Path) -> list[str]:
    return sorted(path.name for path in home.rglob("*.py"))


def test_a_package_that_is_not_allowed_is_refused_in_one_line_and_nothing_of_it_is_unpacked(hostile, home, tmp_path):
    install = guarded(install_from_fab, own_digest(), {})
    with pytest.raises(PackageRefused) as caught:
        install(hostile, skip_prompt=True)
    assert str(caught.value) == (
        f"this silo does not run package {digest(hostile)[:12]}…; it allows {own_digest()[:12]}…"
    )
    assert unpacked(home) == [] and not (tmp_path / "canary").exists()


def test_our_own_package_is_unpacked_as_flower_does_it(own, home):
    install = guarded(install_from_fab, own_digest(), {})
    place = install(own, skip_prompt=True)
    assert place.is_relative_to(home)
    assert unpacked(home) == ["__init__.py", "client.py", "server.py"]


def test_one_changed_byte_of_our_own_package_is_refused(own, home, tmp_path):
    client = tmp_path / "own" / "fedlaw_deployed" / "client.py"
    client.write_bytes(client.read_bytes().replace(b"a", b"b", 1))
    changed = build_fab_from_disk(tmp_path / "own")
    with pytest.raises(PackageRefused):
        guarded(install_from_fab, own_digest(), {})(changed, skip_prompt=True)
    assert unpacked(home) == []


def test_what_the_silos_operator_names_is_allowed_beside_our_own(hostile, own, home):
    environment = {PACKAGES: f" {digest(hostile).upper()} , {'0' * 64},"}
    install = guarded(install_from_fab, own_digest(), environment)
    install(hostile, skip_prompt=True)
    install(own, skip_prompt=True)
    assert len(list((home / "apps").iterdir())) == 2


def test_an_allow_list_with_a_slip_in_it_allows_nothing(own, home):
    for slip in ("abc", digest(own)[:-1], f"{'0' * 64};{'1' * 64}", "*"):
        with pytest.raises(PackageRefused, match="FEDLAW_PACKAGES at this silo does not hold digests"):
            guarded(install_from_fab, own_digest(), {PACKAGES: slip})(own, skip_prompt=True)
    assert unpacked(home) == []


def test_what_is_no_archive_is_refused_as_such(home):
    with pytest.raises(
        PackageRefused, match=r"this silo does not run the package: the package cannot be read \(BadZip"
    ):
        guarded(install_from_fab, own_digest(), {})(b"junk", skip_prompt=True)


def test_a_long_list_of_allowed_packages_is_told_in_short():
    allowed = [f"{number:064x}" for number in range(5)]
    with pytest.raises(PackageRefused, match=r"(000000000000…, ){2}000000000000… and 2 more$"):
        guard.check(b"PK\x05\x06" + bytes(18), allowed)


def test_the_program_is_flowers_with_the_guard_in_its_place(hostile, home, monkeypatch):
    process = import_module("flwr.supernode.runtime.run_clientapp")
    command = import_module("flwr.supernode.cli.flwr_clientapp")
    called = []
    monkeypatch.setattr(process, "install_from_fab", process.install_from_fab)  # put back afterwards
    monkeypatch.setattr(command, "flwr_clientapp", lambda: called.append(sys.argv))
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.delenv(PACKAGES, raising=False)
    guard.main([own_digest(), "--token", "x"])
    assert called == [["flwr-clientapp", "--token", "x"]]
    with pytest.raises(PackageRefused):
        process.install_from_fab(hostile, skip_prompt=True)


def test_a_flower_that_unpacks_elsewhere_is_not_run_unguarded(monkeypatch):
    process = import_module("flwr.supernode.runtime.run_clientapp")
    command = import_module("flwr.supernode.cli.flwr_clientapp")
    called = []
    monkeypatch.delattr(process, "install_from_fab")
    monkeypatch.setattr(command, "flwr_clientapp", lambda: called.append(1))
    with pytest.raises(AttributeError, match="install_from_fab"):
        guard.main([own_digest()])
    assert called == []


def test_every_program_by_which_flower_could_start_a_run_s_code_is_replaced(tmp_path):
    made = install_guard(tmp_path / "a guard", own_digest())
    assert {path.name for path in made} == set(TASK_TYPE_TO_COMMAND.values())
    for path in made:
        assert os.access(path, os.X_OK)
        if path.name != "flwr-clientapp":
            done = subprocess.run([path, "--token", "x"], capture_output=True, text=True, check=False)
            assert done.returncode == 1 and done.stderr.startswith(f"{path.name} is not run at this silo")


def test_flowers_own_superexec_starts_what_stands_first_in_path(tmp_path, monkeypatch, capfd):
    install_guard(tmp_path / "guard", own_digest())
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "guard"), os.environ["PATH"]]))
    for kind in set(TaskType) - {TaskType.CLIENT_APP}:
        spec = ExecutionSpec(kind, "127.0.0.1:1", "token", True, None, False, None, False, 1)
        SubprocessExecutor().launch(spec)
        said, deadline = "", time.monotonic() + 30
        while not said and time.monotonic() < deadline:
            time.sleep(0.02)
            said = capfd.readouterr().err
        assert said.startswith(f"{TASK_TYPE_TO_COMMAND[kind]} is not run at this silo")


def test_the_program_runs_this_installation_whatever_lies_in_the_working_directory(tmp_path):
    install_guard(tmp_path / "guard", own_digest())
    (tmp_path / "fedlaw_flwr").mkdir()
    (tmp_path / "fedlaw_flwr" / "__init__.py").write_text("raise SystemExit('hijacked')")
    done = subprocess.run(
        [tmp_path / "guard" / "flwr-clientapp", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout.startswith("usage: flwr-clientapp"), done.stderr


def test_it_adds_nothing_heavy_to_what_starts_for_every_message():
    script = (
        "import sys, fedlaw_flwr.silo.guard; print(sorted({'torch', 'numpy', 'pydantic', 'flwr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
