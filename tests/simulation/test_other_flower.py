"""The tested releases of Flower that are not installed here: protocol, apps and a real run hold on each.

Each gets a virtual environment of its own, with that Flower first and the libraries of this environment behind it. That
takes a package index. Of the federation of real processes three tests are run where FEDLAW_OTHER_FEDERATION is set:
they see a whole run, a run of the same seed without a network, and a SuperLink that dies.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedlaw_flwr.core.flower import TESTED, installed, release_of

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2]
FEDLAW = "#!{python}\nimport sys\n\nfrom fedlaw_flwr.cli.main import main\n\nsys.exit(main())\n"


@pytest.fixture(scope="module", params=[release for release in TESTED if release != release_of(installed())])
def other(request, tmp_path_factory):
    """The release, and the programs' folder of an environment that has it."""
    place = tmp_path_factory.mktemp("other-flower")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    python, (packages,) = place / "bin" / "python", place.glob("lib/python*/site-packages")
    shared = [str(CHECKOUT), *(path for path in sys.path if path.endswith("site-packages"))]
    (packages / "shared.pth").write_text("\n".join(shared))
    install = ["-m", "pip", "--python", python, "install", "--disable-pip-version-check", f"flwr=={request.param}.*"]
    done = subprocess.run([sys.executable, *install], capture_output=True, text=True, check=False)
    if "No matching distribution" in done.stderr:
        pytest.skip(f"no package index here has flwr {request.param}")
    assert done.returncode == 0, done.stderr
    (place / "bin" / "fedlaw").write_text(FEDLAW.format(python=python))
    (place / "bin" / "fedlaw").chmod(0o755)
    return request.param, place / "bin"


def holds(programs, *arguments):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [programs / "python", "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]  # also where no test was found


def test_its_environment_has_that_release_and_this_code(other):
    release, programs = other
    told = subprocess.run([programs / "fedlaw", "--version"], capture_output=True, text=True, check=True).stdout
    assert f"(flwr {release}." in told
    asked = "import fedlaw_flwr, flwr, sys; print(fedlaw_flwr.__file__, flwr.__file__.startswith(sys.prefix))"
    said = subprocess.run([programs / "python", "-c", asked], capture_output=True, text=True, check=True).stdout
    assert said.split() == [str(CHECKOUT / "fedlaw_flwr" / "__init__.py"), "True"]


def test_protocol_and_apps_hold_on_it(other):
    holds(other[1], *(f"tests/{name}" for name in ("protocol", "apps")))


def test_flwr_run_in_ray_holds_on_it(other):
    tests = "tests/simulation/test_flwr_run.py"
    holds(other[1], "-m", "", tests, "-k", "flwr_run_itself")


@pytest.mark.skipif("FEDLAW_OTHER_FEDERATION" not in os.environ, reason="6 minutes: set FEDLAW_OTHER_FEDERATION=1")
def test_a_federation_of_real_processes_holds_on_it(other):
    tests = "tests/deploy/test_local_federation.py"
    holds(other[1], "-m", "slow", tests, "-k", "equals_the_simulation or hostile_silo_ends or superlink_killed")
