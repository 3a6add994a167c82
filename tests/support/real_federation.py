"""A real federation's run beside its simulation, for the tests with processes and with containers."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from fedlaw_flwr.apps.byzantine import simulated
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.local import LocalFederation
from fedlaw_flwr.deploy.preparation import init, render
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import Evaluated, Event, RoundEnded
from fedlaw_flwr.simulation.in_process import run_in_process

Kind = TypeVar("Kind", bound=Event)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def local_federation(place: Path, text: str) -> Iterator[LocalFederation]:
    """The federation of this text, all its silos drills and online; ended on leaving, whatever was done to it."""
    file = place / "federation.yaml"
    file.write_text(text)
    federation = Federation.read(file)
    folder = FederationFolder.beside(file, federation.name)
    init(federation, folder, drill=True)
    render(federation, folder)
    processes = LocalFederation(federation, folder)
    try:
        processes.up()
        yield processes
    finally:
        processes.down()


def rounds(folder: Path) -> list[RoundEnded]:
    return events(folder, RoundEnded)


def events(folder: Path, kind: type[Kind]) -> list[Kind]:
    return [event for event in Run.read(folder).events if isinstance(event, kind)]


def simulated_twin(federation: Federation, folder: Path, changed: dict | None = None) -> Path:
    """The same run in this process, silo 2 attacking because the settings say so; its folder."""
    settings = replace(federation.settings(changed), drills="", attack="inverse_gradient", byzantine=1, quorum=0)
    assert settings.known_attacks() == {"silo 2": "inverse_gradient"}
    run_in_process(simulated.app, settings, folder)
    return folder


def assert_agrees(real: Path, twin: Path) -> None:
    """Every silo's update, loss, score and weight in three rounds of learned weights, and the accuracy at the end.

    The alignment is each silo's update projected on what the weighted silos answered at the trial model.
    """
    first, expected = rounds(real)[:3], rounds(twin)[:3]
    assert len(rounds(real)) == len(rounds(twin)) and len(first) == 3
    for one, other in zip(first, expected, strict=True):
        assert one.phase == other.phase == "learning"
        for name in ("silos", "scored"):
            assert getattr(one, name) == tuple(silo.replace(" ", "-") for silo in getattr(other, name))
        for name in ("weights", "losses", "norms", "clip", "alignment", "trial_losses", "scores"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=0, atol=1e-4, err_msg=name)
    accuracy = [events(folder, Evaluated)[-1].metrics["accuracy"] for folder in (real, twin)]
    assert abs(accuracy[0] - accuracy[1]) < 0.01
