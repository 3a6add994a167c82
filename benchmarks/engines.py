"""Rounds per second of the three engines: `python -m benchmarks.engines`, digits or, with --data-dir, MNIST.

One run of each after another on this machine, so that what counts is the ratio. The first round, in which data are
loaded and processes started, is left out. Seconds: of the fastest round, as whatever else the machine does can only
slow one down, and the median. CPU seconds: of all processes of the run, its median round; on a machine with other work,
the number to compare.
"""

import argparse
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from fedlaw_flwr.apps.byzantine.batched import SimulatedSilos
from fedlaw_flwr.apps.byzantine.simulated import app
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.events.types import Event, RoundEnded
from fedlaw_flwr.simulation.flwr_run import simulate
from fedlaw_flwr.simulation.in_process import run_batched, run_in_process

MARK = "FEDLAW_BENCHMARK"
"""In the environment of every process that the run leads to; its value is the id of the first."""
ENGINES = ("batched", "in-process", "ray")


def rounds(settings: Settings, engine: str, silos_per_batch: int) -> list[tuple[float, float]]:
    """The seconds and the CPU seconds of each round but the first."""
    runs: dict[str, Callable[..., None]] = {
        "batched": partial(run_batched, SimulatedSilos, silos_per_batch=silos_per_batch),
        "in-process": partial(run_in_process, app),
        "ray": simulate,
    }
    torch.set_num_threads(os.cpu_count() or 1)  # the in-process engine leaves it at 1
    found: list[tuple[float, float]] = []

    def note(event: Event) -> None:
        if isinstance(event, RoundEnded):
            found.append((event.seconds, cpu_seconds()))

    with tempfile.TemporaryDirectory() as folder:
        runs[engine](settings, Path(folder) / "run", note)
    return [(took, after - before) for (_, before), (took, after) in pairwise(found)]


def cpu_seconds() -> float:
    """What this process and every one it led to have used, those that have ended left out."""
    total = 0.0
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.environ().get(MARK) == str(os.getpid()):
                total += sum(process.cpu_times()[:2])
        except (psutil.Error, OSError):
            continue
    return total


def main() -> None:
    """Prints a row for each engine, its ratios to the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", default="", help="torchvision's folder: MNIST instead of digits")
    parser.add_argument("--silos", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=0, help="0: 64 for MNIST, 16 for digits")
    parser.add_argument("--attack", default="none")
    parser.add_argument("--silos-per-batch", type=int, default=64)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    task: dict[str, Any] = {"task": "mnist", "data-dir": chosen.data_dir} if chosen.data_dir else {"task": "digits"}
    settings = Settings.read(
        {
            **task,
            "num-silos": chosen.silos,
            "num-rounds": chosen.rounds,
            "local-epochs": chosen.epochs,
            "batch-size": chosen.batch_size or (64 if chosen.data_dir else 16),
            "lr": 0.05,
            "attack": chosen.attack,
        }
    )
    print(
        f"{settings.task}, {chosen.silos} silos, batch {settings.batch_size}, {chosen.epochs} epochs, {chosen.attack}"
    )
    # Ended by a timeout, it must still end what Ray's run started.
    signal.signal(signal.SIGTERM, lambda received, frame: sys.exit(128 + received))
    os.environ[MARK] = str(os.getpid())
    first: tuple[float, float] | None = None
    for engine in chosen.engines:
        wall, cpu = zip(*rounds(settings, engine, chosen.silos_per_batch), strict=True)
        best = min(wall), median(cpu)
        first = first or best
        print(
            f"{engine:12} {best[0]:7.3f} s a round, median {median(wall):7.3f}, {1 / best[0]:6.2f} rounds/s, "
            f"{best[0] / first[0]:5.1f} x; CPU {best[1]:7.3f} s, {best[1] / first[1]:5.1f} x "
            f"(load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)",
            flush=True,
        )


if __name__ == "__main__":
    main()
