"""Rounds per second of the three engines: `python -m benchmarks.engines`, digits or, with --data-dir, MNIST.

One run of each after another on this machine, so that what counts is the ratio. The first round, in which data are
loaded and processes started, is left out. Seconds: of the fastest round, as whatever else the machine does can only
slow one down, and the median. CPU seconds: of all processes of the run, its median round; on a machine with other work,
the number to compare. Beside them the floating-point operations of the round's matrix products, and how many a second
one thread reaches in one large product and in the products of this net's training alone. The figures go into
docs/performance.json and its table.
"""

import argparse
import cProfile
import logging
import os
import pstats
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from benchmarks import performance
from benchmarks.machine import busy, described
from fedlaw_flwr.apps.byzantine.batched import SimulatedSilos
from fedlaw_flwr.apps.byzantine.simulated import app
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.events.types import Event, RoundEnded
from fedlaw_flwr.simulation.flwr_run import simulate
from fedlaw_flwr.simulation.in_process import run_batched, run_in_process

MARK = "FEDLAW_BENCHMARK"
"""In the environment of every process that the run leads to; its value is the id of the first."""
PARTS = {
    "training and losses": (("engines/stacked.py", "train_together"),),
    "replies made": (("apps/honest.py", "answer"),),
    "replies read by the gate": (("protocol/gate.py", "read_update"),),
    "models tested": (("apps/experiment.py", "evaluate_fn"),),
    "weights learned": (("learners/learning.py", "open"), ("learners/learning.py", "close")),
    "checkpoints and events": (("strategy/base.py", "_keep"), ("strategy/base.py", "_tell")),
}
"""The functions in which a round of the batched engine spends its time."""
_PRODUCT = re.compile(r"[ .'](?:baddbmm_?|bmm|linear|addmm|matmul)[>']")
ENGINES = ("batched", "in-process", "ray")


def rounds(
    settings: Settings, engine: str, silos_per_batch: int, threads: int = os.cpu_count() or 1
) -> list[tuple[float, float]]:
    """The seconds and the CPU seconds of each round but the first."""
    runs: dict[str, Callable[..., None]] = {
        "batched": partial(run_batched, SimulatedSilos, silos_per_batch=silos_per_batch),
        "in-process": partial(run_in_process, app),
        "ray": simulate,
    }
    torch.set_num_threads(threads)  # the in-process engine leaves it at 1
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


def operations(widths: list[int], examples: int, tested: int, settings: Settings) -> float:
    """Floating-point operations of a weight round's products, for a perceptron: two for a multiplication and addition.

    Training takes three products a layer and example, one fewer in the first; a loss or a test one. In exchange 2 the
    silos that carry weight train, n - b of n, and all take their loss.
    """
    layers = [one * other for one, other in pairwise(widths)]
    forward, training = 2 * sum(layers), 6 * sum(layers) - 2 * layers[0]
    share = 1 + (1 - float(settings.max_byzantine))
    return examples * (share * settings.local_epochs * training + 2 * forward) + tested * forward


def reached(flop: float, call: Callable[[], Any], least: float = 1.0) -> float:
    """Operations in a CPU second of one thread, the median of calls that take so many seconds together."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken: list[float] = []
    while sum(taken) < least:
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    torch.set_num_threads(threads)
    return flop / median(taken)


def large_product(size: int = 2048) -> float:
    """Operations a second of one square product."""
    one = torch.randn(size, size)
    return reached(2 * size**3, lambda: one @ one)


def own_products(widths: list[int], silos: int, batch: int) -> float:
    """Operations a second of the products of one step of so many perceptrons, as `engines.stacked` makes them."""
    layers = list(pairwise(widths))
    inputs = [torch.randn(silos, batch, width) for width in widths]
    weights = [torch.randn(silos, out, into) * 1e-3 for into, out in layers]
    biases = [torch.randn(silos, 1, out) for _, out in layers]
    gradients = [torch.randn(silos, batch, out) for _, out in layers]

    def step() -> None:
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            torch.baddbmm(bias, inputs[i], weight.transpose(1, 2))
            if i:
                torch.bmm(gradients[i], weight)
            weight.baddbmm_(gradients[i].transpose(1, 2), inputs[i], alpha=-1e-9)

    counts = [one * other for one, other in layers]
    return reached(silos * batch * (6 * sum(counts) - 2 * counts[0]), step)


def parts(stats: pstats.Stats) -> dict[str, float]:
    """The shares of the rounds' CPU time: of `PARTS`, of products among the training and losses, and of the rest."""
    own: dict[str, float] = {}
    whole: dict[str, float] = {}
    for (file, _, name), (_, _, inside, altogether, _) in stats.stats.items():  # type: ignore[attr-defined]
        for part, functions in PARTS.items():
            if any(name == function and file.endswith(path) for path, function in functions):
                whole[part] = whole.get(part, 0.0) + altogether
        if file == "~" and _PRODUCT.search(name):
            own["products"] = own.get("products", 0.0) + inside
        if name == "_run" and file.endswith("strategy/base.py"):
            own["total"] = altogether
    total = own["total"]
    found = {part: seconds / total for part, seconds in whole.items()}
    found["of all: matrix products"] = own["products"] / total
    found["the rest"] = 1 - sum(whole.values()) / total
    return found


def net_of(settings: Settings) -> tuple[list[int], int, int]:
    """The widths of the task's perceptron, how many examples the silos hold, and how many a model is tested on."""
    task = settings.load_task()
    weights = [value for value in task.build_model(0).state_dict().values() if value.dim() == 2]
    widths = [weights[0].shape[1], *(value.shape[0] for value in weights)]
    held = sum(len(task.load_train(silo)) for silo in range(settings.num_silos))
    return widths, held, len(task.load_test()) + len(task.load_validation())


def compared(settings: Settings, engines: Sequence[str], silos_per_batch: int) -> dict[str, Any]:
    """Runs the engines one after another and prints a row for each: what the table has of this net."""
    widths, held, tested = net_of(settings)
    flop = operations(widths, held, tested, settings)
    per_thread = max(1, silos_per_batch // (os.cpu_count() or 1))
    large, own = large_product(), own_products(widths, per_thread, settings.batch_size)
    print(
        f"{flop / 1e9:.1f} GFLOP a round; a CPU second: one product {large / 1e9:.0f}, this net's {own / 1e9:.0f} GFLOP"
    )
    rows: list[dict[str, Any]] = []
    for engine in engines:
        wall, cpu = zip(*rounds(settings, engine, silos_per_batch), strict=True)
        row = {"engine": engine, "least": min(wall), "seconds": median(wall), "cpu": median(cpu), "rounds": len(wall)}
        rows.append(row | {"gflop": flop / row["cpu"] / 1e9})
        print(
            f"{engine:12} {row['least']:7.3f} s a round, median {row['seconds']:7.3f}, "
            f"{row['least'] / rows[0]['least']:5.1f} x; CPU {row['cpu']:7.3f} s, {row['cpu'] / rows[0]['cpu']:5.1f} x "
            f"(load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)",
            flush=True,
        )
    name = "-".join(map(str, widths))
    epochs, silos = settings.local_epochs, settings.num_silos
    return {
        "task": settings.task,
        "net": f"{name}, batch {settings.batch_size}, {epochs} epochs, {silos} silos",
        "gflop": flop / 1e9,
        "large": large / 1e9,
        "own": own / 1e9,
        "rows": [
            {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()} for row in rows
        ],
    }


def main() -> None:
    """Prints a row for each engine, its ratios to the first, and writes the figures and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", default="", help="torchvision's folder: MNIST instead of digits")
    parser.add_argument("--silos", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=0, help="0: 64 for MNIST, 16 for digits")
    parser.add_argument("--attack", default="none")
    parser.add_argument("--silos-per-batch", type=int, default=64)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--profile", action="store_true", help="where the first engine's time goes, in one thread")
    parser.add_argument("--out", type=Path, default=performance.FIGURES, help="the JSON file; its table goes beside it")
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
    if chosen.profile:
        with cProfile.Profile(time.process_time) as profile:
            rounds(settings, chosen.engines[0], chosen.silos_per_batch, threads=1)
        for part, share in parts(pstats.Stats(profile)).items():
            print(f"{part:40} {100 * share:5.1f} %")
        return
    found = compared(settings, chosen.engines, chosen.silos_per_batch)
    before = performance.read(chosen.out).get("engines", {}).get("nets", [])
    others = [net for net in before if net["task"] != settings.task]
    machine = described(("torch", "flwr", "ray"), f"all of them used; {busy()}")
    performance.write(chosen.out, "engines", {"machine": machine, "nets": [*others, found]})


if __name__ == "__main__":
    main()
