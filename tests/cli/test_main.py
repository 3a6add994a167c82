"""What the console script makes of an error: a sentence for a person's mistake, and the truth about its own."""

import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fedlaw_flwr.cli import main as script
from fedlaw_flwr.config.settings import SettingsError, every_setting
from fedlaw_flwr.core.errors import AlreadyThere, InputError, NotThere
from fedlaw_flwr.deploy.control import ControlError
from fedlaw_flwr.events.folder import RunFailed

FEDLAW = Path(sys.executable).parent / "fedlaw"


@pytest.fixture
def ended(monkeypatch, capsys):
    """Runs the script with a command that raises this; its exit code and what it says."""
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)

    def run(raises, verbose=False):
        monkeypatch.setattr(script, "app", raises)
        monkeypatch.setattr(script, "_verbose", verbose)
        with pytest.raises(SystemExit) as end:
            script.main()
        return end.value.code, capsys.readouterr().err

    return run


def raising(error):
    def app():
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("q=2: it should be less than or equal to 1"), 2),
        (SettingsError("q=2: it should be less than or equal to 1"), 2),
        (NotThere("q=2: no such run"), 2),
        (AlreadyThere("q=2: it is there"), 2),
        (RunFailed("q=2: none of 3 rounds moved the model"), 1),
        (ControlError("q=2: the SuperLink does not answer"), 1),
        (TimeoutError("q=2: not online after 60 s"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_is_meant_for_people_is_its_sentence_alone(ended, error, code):
    assert ended(raising(error)) == (code, f"error: {error}\n")


@pytest.mark.parametrize(
    "raises",
    [
        lambda: np.zeros(2) + np.zeros(3),
        lambda: int("twelve"),
        lambda: {}["silo-4"],
        raising(OSError("from inside")),
        raising(ValueError("a library's")),
        raising(ConnectionRefusedError(111, "Connection refused")),
        raising(RuntimeError("from inside")),
        raising(AssertionError()),
        raising(ModuleNotFoundError("No module named 'fedlaw_flwr.gone'", name="fedlaw_flwr.gone")),
    ],
)
def test_a_fault_of_the_program_is_called_one_and_says_what_to_report(ended, raises):
    code, said = ended(raises)
    assert code == 70
    assert said.startswith("error: internal error, ") and "test_main.py, line" in said
    assert "a fault of fedlaw and not of what you gave it" in said and "--verbose" in said and "report" in said
    assert "Traceback" not in said and said.count("\n") == 1


def test_verbose_shows_where_a_fault_happened(ended):
    code, said = ended(lambda: int("twelve"), verbose=True)
    assert code == 70 and "Traceback" in said and "shows the traceback" not in said.splitlines()[-1]


def test_a_library_that_an_extra_brings_is_still_named_with_it(ended):
    code, said = ended(raising(ModuleNotFoundError("No module named 'psutil'", name="psutil")))
    assert (code, said) == (2, "error: psutil is not installed: pip install 'fedlaw-flwr[simulation]'\n")


def test_version_names_both_releases():
    done = CliRunner().invoke(script.app, ["--version"])
    assert done.exit_code == 0
    assert version("fedlaw-flwr") in done.stdout and f"flwr {version('flwr')}" in done.stdout


def test_the_help_of_run_names_every_setting_with_its_default_by_group():
    done = CliRunner().invoke(script.app, ["run", "--help"])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    for one in every_setting():
        assert any(line.startswith(f"    {one.wire_name}=") for line in lines), one.name
        assert f"  {one.group}" in lines
    assert "    num-rounds=20" in lines and "    nnm=false" in lines and "    run-dir=''" in lines


def test_run_says_what_has_no_effect_and_refuses_what_is_given_twice(tmp_path):
    quick = ["num-rounds=1", "local-epochs=1", "num-silos=4", "max-byzantine=1", "weight-rounds=1"]
    done = CliRunner().invoke(
        script.app, ["run", "--engine", "batched", "--runs", str(tmp_path), *quick, "byzantine=1", "krum-m=2"]
    )
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert said.count("byzantine=1 has no effect: attack='none', so nobody attacks") == 1
    assert said.count("krum-m=2 has no effect") == 1
    twice = CliRunner().invoke(script.app, ["run", "seed=1", "seed=2"])
    assert "seed is given twice" in str(twice.exception)


def test_a_broken_line_in_a_run_folder_is_told_with_its_number(tmp_path):
    (tmp_path / "events.jsonl").write_text('{"kind": "run", "settings": {}}\n{"kind": \n')
    done = subprocess.run([FEDLAW, "report", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "events.jsonl:2: this line is no event of a run" in done.stderr.replace("\n", "")
