"""The wheel holds the package alone, and `fedlaw run` works from it in an empty folder, without a checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def done(command: list[str | Path], cwd: Path) -> str:
    """What the command printed; its whole output is shown where it fails."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline from a copy of the sources, so that nothing a checkout gathers can get into it."""
    sources = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    for name in ("fedlaw_flwr", "client_app", "server_app", "tests"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    done([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", sources / "dist", sources], sources)
    (made,) = (sources / "dist").glob("*.whl")
    return made


def installed(wheel: Path, place: Path) -> Path:
    """The bin folder of an environment with this wheel, and the libraries and Flower's commands of the running one.

    A line in a .pth file adds the running environment's libraries after the wheel's own files. The .pth files that lie
    there are not read, so a checkout installed there by `pip install --editable` is not found.
    """
    venv.create(place, symlinks=True)
    own = Path(
        done([place / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], place).strip()
    )
    (own / "running.pth").write_text("".join(f"{sysconfig.get_path(kind)}\n" for kind in ("purelib", "platlib")))
    pip = [sys.executable, "-m", "pip", "--python", place / "bin" / "python", "install", "--quiet"]
    done([*pip, "--no-deps", "--no-index", "--ignore-installed", wheel], place)
    for script in Path(sys.executable).parent.iterdir():
        if script.name.startswith(("flwr", "flower")):
            _, _, code = script.read_text().partition("\n")
            (place / "bin" / script.name).write_text(f"#!{place / 'bin' / 'python'}\n{code}")
            (place / "bin" / script.name).chmod(0o755)
    return place / "bin"


def test_the_wheel_holds_the_package_and_its_metadata_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {
        "fedlaw_flwr",
        f"{'-'.join(wheel.name.split('-')[:2])}.dist-info",
    }
    assert "fedlaw_flwr/py.typed" in names
    assert {name for name in names if name.endswith(".template")} == {
        f"fedlaw_flwr/{package}/templates/{file.name}"
        for package in ("apps", "silo")
        for file in (ROOT / "fedlaw_flwr" / package / "templates").iterdir()
    }
    assets = ROOT / "fedlaw_flwr/reporting/assets"
    assert {f"fedlaw_flwr/reporting/assets/{file.name}" for file in assets.iterdir()} <= set(names)


@pytest.mark.slow
def test_a_run_in_ray_reaches_its_verdict_from_the_wheel_in_an_empty_folder(wheel, tmp_path):
    """1 to 2 minutes on two cores: an environment, Ray's start, one round of four silos."""
    programs, empty = installed(wheel, tmp_path / "environment"), tmp_path / "empty"
    empty.mkdir()
    where = "import fedlaw_flwr, importlib.util as u; print(fedlaw_flwr.__file__, u.find_spec('client_app'))"
    package = done([programs / "python", "-c", where], empty)
    assert package.startswith(str(tmp_path / "environment")) and package.endswith(" None\n")
    arguments = ["num-rounds=1", "num-silos=4", "byzantine=1", "max-byzantine=1", "attack=inverse_gradient"]
    told = done([programs / "fedlaw", "run", *arguments], empty)
    assert "accuracy on the test set" in told and "attackers caught" in told
    (folder,) = (empty / "runs").iterdir()
    assert (folder / "report.html").is_file()
    assert [path.name for path in empty.iterdir()] == ["runs"]
