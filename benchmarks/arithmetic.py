"""Every rule here, in ByzFL and in Flower, in multiples of one `w @ G`: `python -m benchmarks.arithmetic`.

G is an (n, d) float32 matrix, an update a row. The unit, each rule and, again, the unit are timed in turn, so that what
else the machine does slows both. Times are CPU seconds of this process, in one thread. Medians are written into
docs/performance.json and its table into docs/performance.md.
"""

import argparse
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks import performance
from benchmarks.machine import described
from fedlaw_flwr.core.distances import squared_distances
from fedlaw_flwr.rules import RULES, RuleSettings
from fedlaw_flwr.rules.interface import Call
from fedlaw_flwr.rules.nnm import nnm

Matrix = NDArray[np.float32]
PARAMETERS = 178_110  # of the paper's MNIST network
SIZES = (50, 200)
LIBRARIES = ("numpy", "torch", "byzfl", "flwr")
"""Those whose rules are compared, and what they compute with."""
# In matvecs: what takes longer is run three times, or once.
_SLOW, _SLOWEST = 60, 250
_MOST_BYTES = 4e9  # ByzFL's NNM holds the differences of all pairs of rows; above this it is left out


@dataclass(frozen=True)
class Case:
    """One thing that is timed.

    Attributes:
        row: The line of the table.
        column: Whose it is.
        prepare: What makes the call, outside the time.
    """

    row: str
    column: str
    prepare: Callable[[], Callable[[], Any]]


@dataclass
class Found:
    """A case's median, in matvecs, of so many runs."""

    n: int
    d: int
    row: str
    column: str
    matvecs: float
    runs: int


def updates_of(n: int, d: int, f: int) -> Matrix:
    """Honest rows with a direction in common and, at random places, f rows five times as long."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((n, d), dtype=np.float32)
    rows += 0.5 * random.standard_normal(d, dtype=np.float32)
    rows[random.permutation(n)[:f]] *= 5
    return rows


def floors(rows: Matrix) -> Iterator[Case]:
    """What no rule can be faster than: memory traffic, and for rules of distances the Gram matrix."""
    copy = rows.copy()  # its pages are there before the clock starts
    part = rows[:, : 2**18 // rows.shape[0]].astype(np.float64)
    blocks = rows.shape[1] / part.shape[1]

    def gram() -> None:
        for _ in range(round(blocks)):
            part @ part.T

    yield Case("copy of the matrix", "floor", lambda: partial(np.copyto, copy, rows))
    yield Case("Gram matrix in float64, conversion left out", "floor", lambda: gram)
    yield Case("squared distances", "ours", lambda: partial(squared_distances, rows))


def ours(rows: Matrix, f: int) -> Iterator[Case]:
    """Every rule as a round calls it, its checks included."""
    radius = float(np.sqrt(rows.shape[1]))  # the length of an honest row's noise: about half are clipped
    settings = RuleSettings(f=f, cclip_tau=radius, huber_threshold=radius / 2)
    honest = np.ones(rows.shape[0], dtype=bool)
    for name, rule in RULES.items():
        if name != "ideal":
            yield Case(name, "ours", lambda rule=rule: partial(rule.run, rows, Call(settings, None, honest)))  # type: ignore[misc]
    yield Case("nnm", "ours", lambda: partial(nnm, rows, f))


def byzfl(rows: Matrix, f: int) -> Iterator[Case]:
    """ByzFL's on torch tensors, which is the faster of its two kinds."""
    import torch
    from byzfl import CAF, NNM, Average, CenteredClipping, GeometricMedian, Krum, Median, MultiKrum, TrMean

    torch.set_num_threads(1)
    tensors = torch.from_numpy(rows)
    rules: dict[str, Callable[[], Any]] = {
        "fedavg": Average,
        "krum": partial(Krum, f),
        "multi_krum": partial(MultiKrum, f),
        "trimmed_mean": partial(TrMean, f),
        "cw_median": Median,
        "cclip": partial(CenteredClipping, L=1, tau=float(np.sqrt(rows.shape[1]))),
        "rfa": partial(GeometricMedian, nu=1e-6, T=3),
        "caf": partial(CAF, f),
        "nnm": partial(NNM, f),
    }
    n, d = rows.shape
    if 4 * n * n * d > _MOST_BYTES:
        del rules["nnm"]
    for name, rule in rules.items():
        yield Case(name, "ByzFL", lambda rule=rule: partial(rule(), tensors))  # type: ignore[misc]


def flower(rows: Matrix, f: int) -> Iterator[Case]:
    """Flower's strategies, from the replies' records on: they first read each array from its bytes."""
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.serverapp.strategy import Bulyan, FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum
    from flwr.supercore.task_identity import TaskIdentity

    n = rows.shape[0]
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, 1, 1  # no message is made without

    def replies() -> list[Message]:
        made = []
        for node, row in enumerate(rows, 1):
            content = RecordDict(
                {"arrays": ArrayRecord({"w": Array(row)}), "metrics": MetricRecord({"num-examples": 1})}
            )
            made.append(Message(content, dst_node_id=node, message_type="train"))
        return made

    def read(messages: list[Message]) -> None:
        for message in messages:
            message.content.array_records["arrays"]["w"].numpy()

    strategies: dict[str, Callable[[], Any]] = {
        "fedavg": FedAvg,
        "krum": partial(Krum, num_malicious_nodes=f),
        "multi_krum": partial(MultiKrum, num_malicious_nodes=f, num_nodes_to_select=n - f),
        "trimmed_mean": partial(FedTrimmedAvg, beta=f / n),
        "cw_median": FedMedian,
        "bulyan": partial(Bulyan, num_malicious_nodes=f),
    }
    for name, strategy in strategies.items():
        yield Case(name, "Flower", lambda strategy=strategy: partial(strategy().aggregate_train, 1, replies()))  # type: ignore[misc]
    yield Case("reading n replies from their bytes", "Flower", lambda: partial(read, replies()))


def seconds(call: Callable[[], Any]) -> float:
    """CPU seconds of the call."""
    began = time.process_time()
    call()
    return time.process_time() - began


def measure(n: int, d: int, runs: int) -> Iterator[list[Found]]:
    """Every case at one size, interleaved; after each run, the medians so far."""
    f = n // 5
    rows = updates_of(n, d, f)
    weights = np.full(n, 1 / n, dtype=np.float32)
    unit = partial(np.matmul, weights, rows)
    cases = [*floors(rows), *ours(rows, f), *byzfl(rows, f), *flower(rows, f)]
    ratios: dict[int, list[float]] = {number: [] for number in range(len(cases))}
    unit()
    for run in range(runs):
        for number, case in enumerate(cases):
            so_far = ratios[number]
            if so_far and (so_far[0] > _SLOWEST or (so_far[0] > _SLOW and run >= 3)):
                continue
            call = case.prepare()
            before = seconds(unit)
            took = seconds(call)
            so_far.append(2 * took / (before + seconds(unit)))
            print(f"n = {n}, {case.column} {case.row}: {so_far[-1]:.1f}", flush=True)
        yield [
            Found(n, d, case.row, case.column, round(median(ratios[number]), 2), len(ratios[number]))
            for number, case in enumerate(cases)
        ]


def main() -> None:
    """Measures, and writes the figures and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--silos", type=int, nargs="+", default=SIZES)
    parser.add_argument("--parameters", type=int, default=PARAMETERS, help="fewer to try it out")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=performance.FIGURES, help="the JSON file; its table goes beside it")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    done: dict[int, list[Found]] = {}
    with threadpool_limits(1):
        for n in chosen.silos:
            for found_so_far in measure(n, chosen.parameters, chosen.runs):
                done[n] = found_so_far
                rows = [asdict(each) for found in done.values() for each in found]
                performance.write(chosen.out, "arithmetic", {"machine": described(LIBRARIES), "rows": rows})


if __name__ == "__main__":
    main()
