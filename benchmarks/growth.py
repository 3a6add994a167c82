"""Seconds and memory of the server's round as silos and parameters grow: `python -m benchmarks.growth`.

A FedLAW weight round, two exchanges, over silos in this process that answer at once with updates made before; what
making the replies takes is taken off. Every size has a process of its own, one thread. CPU seconds, the least of the
rounds; memory is the most that the process held beyond what it held before. The slopes are fitted to the logarithms.
"""

import argparse
import json
import logging
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from threadpoolctl import threadpool_limits

from benchmarks import performance
from benchmarks.machine import described
from fedlaw_flwr.core.peak import peak_bytes
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.strategy import FedLAW

SILOS = (10, 30, 100, 300, 1000)
PARAMETERS = (10_000, 100_000, 1_000_000, 10_000_000)
LARGEST = 6e9
"""Bytes of the matrix up to which a size is measured."""
_KINDS = 4  # replies that differ
_ROUNDS = 3


def measure(n: int, d: int) -> dict[str, float]:
    """One size, in this process."""
    random = np.random.default_rng(0)
    start = np.zeros(d, np.float32)
    replies = [
        ArrayRecord({"w": Array((start - random.standard_normal(d, dtype=np.float32)).astype(np.float32))})
        for _ in range(_KINDS)
    ]
    app, spent = ClientApp(), [0.0]

    @app.train()
    def train(message: Message, context: Context) -> Message:
        began = time.process_time()
        silo = int(context.node_config["partition-id"])
        content = RecordDict(
            {"arrays": replies[silo % _KINDS], "metrics": MetricRecord({"loss": 1.0 + 0.1 * (silo % 7)})}
        )
        reply = Message(content, reply_to=message)
        spent[0] += time.process_time() - began
        return reply

    times: list[float] = []

    def note(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        times.append(time.process_time() - spent[0])
        return None

    _forget_peak()
    before = _most_held()
    strategy = FedLAW(max_byzantine=0.2, lr=0.1, num_silos=n, loss_key="loss", loss_only_replies=False)
    grid = InProcessGrid(app, n)
    config = ConfigRecord({"lr": 0.1})
    with threadpool_limits(1):
        strategy.start(grid, ArrayRecord({"w": Array(start)}), _ROUNDS + 1, train_config=config, evaluate_fn=note)
    seconds = np.diff(times)[1:]
    return {"n": n, "d": d, "seconds": float(seconds.min()), "bytes": float(_most_held() - before)}


def _forget_peak() -> None:
    """Makes what this process holds now its peak, where the system can (Linux)."""
    place = Path("/proc/self/clear_refs")
    if place.exists():
        place.write_text("5", encoding="ascii")


def _most_held() -> int:
    """The most memory this process has held since then, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    return peak_bytes()


def slope(rows: Sequence[Mapping[str, Any]], along: str, of: str) -> float:
    """The least-squares slope of log(of) over log(along)."""
    x, y = (np.log([row[key] for row in rows]) for key in (along, of))
    return float(np.polyfit(x, y, 1)[0])


def slopes(rows: Sequence[Mapping[str, Any]], least: int) -> list[dict[str, Any]]:
    """The slopes over d at each n and over n at each d, for matrices of so many numbers at least."""
    found = []
    for fixed, along in (("n", "d"), ("d", "n")):
        for value in sorted({row[fixed] for row in rows}):
            line = [row for row in rows if row[fixed] == value and row["n"] * row["d"] >= least]
            if len(line) >= 3:
                both = {of: round(slope(line, along, of), 2) for of in ("seconds", "bytes")}
                found.append({"fixed": fixed, "at": value, "sizes": len(line), **both})
    return found


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Seconds and memory over d, a line for each n, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "growth", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    for n in sorted({row["n"] for row in rows}):
        line = sorted((row for row in rows if row["n"] == n), key=lambda row: int(row["d"]))
        x = [row["d"] for row in line]
        left.loglog(x, [row["seconds"] for row in line], marker="o", markersize=3, label=f"n = {n}")
        right.loglog(x, [row["bytes"] / 1e9 for row in line], marker="o", markersize=3)
    right.axhline(24, color="grey", linestyle="--", linewidth=1)
    right.text(1e4, 24, "24 GB", va="bottom", color="grey")
    left.set(xlabel="parameters d", ylabel="CPU seconds a weight round")
    right.set(xlabel="parameters d", ylabel="memory at its peak, GB")
    left.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Measures every size in a process of its own, and writes the figures, the table and the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--silos", type=int, nargs="+", default=SILOS)
    parser.add_argument("--parameters", type=int, nargs="+", default=PARAMETERS)
    parser.add_argument("--one", action="store_true", help="the first size alone, in this process: prints it as JSON")
    parser.add_argument("--out", type=Path, default=performance.FIGURES, help="the JSON file; its table goes beside it")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if chosen.one:
        print(json.dumps(measure(chosen.silos[0], chosen.parameters[0])))
        return
    rows = []
    for n in chosen.silos:
        for d in chosen.parameters:
            if 4 * n * d > LARGEST:
                continue
            command = [sys.executable, "-m", "benchmarks.growth", "--one", "--silos", str(n), "--parameters", str(d)]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows.append(json.loads(said.splitlines()[-1]))
            print(f"n = {n}, d = {d:,}: {rows[-1]['seconds']:.3f} s, {rows[-1]['bytes'] / 1e9:.3f} GB", flush=True)
    figures = {"machine": described(("numpy", "flwr")), "rows": rows, "slopes": slopes(rows, 10**6)}
    performance.write(chosen.out, "growth", figures)
    draw(rows, chosen.out.with_name("growth.svg"))


if __name__ == "__main__":
    main()
