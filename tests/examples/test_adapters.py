"""The example with LoRA adapters: the adapters alone are sent, and the hostile clients end without weight."""

import runpy
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "examples" / "adapters" / "run.py"


@pytest.mark.slow
def test_adapters_are_learned_and_the_hostile_clients_have_no_weight(capsys):
    pytest.importorskip("peft")
    example = runpy.run_path(str(RUN))
    (before, after), verdict, sent = example["main"](["--rounds", "3"])
    assert {row.silo for row in verdict if row.outcome == "no weight"} == {
        f"node {partition + 2}" for partition in example["HOSTILE"]
    }
    assert after > before and sent == 1610
    assert "1610 of 10644 numbers are sent" in capsys.readouterr().out
