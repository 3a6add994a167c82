"""When the log and preflight speak of peer review."""

import logging

import numpy as np
import pytest
from scripted import ScriptedGrid, record_of, reply, stopped_clock

from fedlaw_flwr.strategy import FedLAW
from fedlaw_flwr.strategy.advice import on_variant


@pytest.mark.parametrize(
    ("variant", "n", "b", "said"),
    [
        ("fedlaw", 20, 8, True),
        ("fedlaw", 10, 3, True),
        ("fedlaw", 20, 4, False),
        ("fedlaw", 200, 80, False),
        ("review", 20, 8, False),
        ("bsum", 20, 8, False),
    ],
)
def test_it_is_said_of_small_federations_with_a_high_bound(variant, n, b, said):
    assert (on_variant(variant, n, b) is not None) == said


def test_the_log_of_a_run_says_how_to_switch(caplog):
    grid = ScriptedGrid([lambda received: reply({"w": received.arrays["w"] - 0.1}, 1.0)] * 8)
    with stopped_clock(), caplog.at_level(logging.INFO, logger="flwr"):
        FedLAW(max_byzantine=3, lr=0.1, startup_timeout=5.0).start(
            grid, record_of({"w": np.zeros(4, np.float32)}), 1, 30
        )
    assert "variant=review selects it" in caplog.text
