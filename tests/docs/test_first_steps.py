"""The first commands of the README: what they print before they take long, and that they need no network."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PAGES = [CHECKOUT / "README.md", *CHECKOUT.glob("docs/**/*.md"), *CHECKOUT.glob("examples/**/README.md")]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_demo_says_that_it_installs_before_it_does_and_pip_is_not_quiet(tmp_path):
    command = ["make", "--dry-run", f"VENV={tmp_path / 'venv'}", "demo"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    (pip,) = [number for number, line in enumerate(lines) if "pip install" in line]
    assert "Installing everything into" in lines[pip - 1] and "minutes" in lines[pip - 1]
    assert "--quiet" not in lines[pip] and " -q" not in lines[pip]


def test_every_flwr_run_in_the_pages_uses_the_environment_that_is_there():
    """Without the variable Flower builds a fresh environment over the network for each app."""
    given = [
        (page.name, line)
        for page in PAGES
        for block in re.findall(r"^```[^\n]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
        if re.search(r"(^|\s)flwr run ", line)
    ]
    assert len(given) >= 2
    assert [one for one in given if "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1" not in one[1]] == []
