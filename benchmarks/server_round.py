"""What a round costs the server, in matrix-vector products: `python -m benchmarks.server_round [SIZE ...]`.

Every time is CPU time of this process with one thread, as a multiple of one `w @ G` on the float32 matrix G (n, d) of
the updates, measured in the same run. CPU time is what the round costs whatever else the machine does. Silos' replies
are made beforehand, so that what is timed is the server's part: from Flower's messages in memory to the new model.
Sending them is Flower's part and is not in it. Medians are written into docs/performance.json and its table into
docs/performance.md; sizes that are not named keep their figures.

Beside each part stands the least that it could cost: the traffic between memory and processor that it cannot do
without, at the speed of `w @ G` where the matrix is read, and of a copy where it is written too.
"""

import argparse
import logging
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from threadpoolctl import threadpool_limits

from benchmarks import performance
from benchmarks.arithmetic import LIBRARIES
from benchmarks.machine import described
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.learners.decisions import Step, Trial, Updates
from fedlaw_flwr.learners.learning import WeightLearning
from fedlaw_flwr.protocol import gate
from fedlaw_flwr.protocol.exchange import Outcome
from fedlaw_flwr.protocol.layout import Layout
from fedlaw_flwr.protocol.roster import Silo
from fedlaw_flwr.protocol.round import Matrix, Replies
from fedlaw_flwr.strategy import FedLAW

TABLE = "server-round"
SIZES = {"50": (50, 178_110), "200": (200, 178_110), "resnet18": (20, 11_000_000), "huge": (8, 100_000_000)}
# What each part must read (in matvecs) and what it must read and write (in copies of G). A fifth of the rows are
# clipped. The updates at the trial model are added to z as they are decoded, so they need not come from memory again.
FLOORS = {
    "w @ G": (1.0, 0.0),
    "copy of G": (0.0, 1.0),
    "decode, subtract, norm": (0.0, 1.0),
    "clip": (0.0, 0.2),
    "trial step": (1.0, 0.0),
    "z": (0.0, 0.0),
    "alignment, scores, projection": (1.0, 0.0),
    "step": (1.0, 0.0),
    "arithmetic on the matrix": (3.0, 0.2),
    "a held round": (1.0, 1.2),
    "a weight round": (4.0, 1.2),  # of exchange 2's replies each is read; the row they are decoded into stays in cache
}
_ARRAYS = 6  # of the model, as an MLP of three layers has
_STEP = 1e-2  # the length of an update's coordinates beside the model's, which are about 1
_LR = 0.1


def replies(n: int, d: int, distinct: int, reviewed: bool) -> tuple[ArrayRecord, list[RecordDict]]:
    """The first model, and a reply of each silo: `distinct` different ones, taken in turn."""
    rng = np.random.default_rng(0)
    cuts = np.linspace(0, d, _ARRAYS + 1).astype(int)
    parts = [slice(*pair) for pair in pairwise(cuts)]
    theta = rng.standard_normal(d, np.float32)

    def record(row: np.ndarray) -> ArrayRecord:
        return ArrayRecord({f"layer{k}": Array(row[part]) for k, part in enumerate(parts)})

    contents = []
    for _ in range(distinct):
        noise = rng.standard_normal(d, np.float32)
        noise *= np.float32(_STEP)
        content = {"review": record(noise)} if reviewed else {}
        noise += theta
        contents.append({"arrays": record(noise), **content})
    made = [
        RecordDict({**contents[i % distinct], "metrics": MetricRecord({"loss": 1.0 + i / n, "balanced-loss": 1.0})})
        for i in range(n)
    ]
    return record(theta), made


def cpu(work: Callable[[], Any]) -> float:
    """Milliseconds of CPU time of one call."""
    started = time.process_time()
    work()
    return 1e3 * (time.process_time() - started)


def rounds(start: ArrayRecord, made: list[RecordDict], count: int, **settings: Any) -> list[float]:
    """Milliseconds of CPU time of each round but the first, which allocates."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(made[int(context.node_config["partition-id"])], reply_to=message)

    ends: list[float] = []
    strategy = FedLAW(
        max_byzantine=0.2,
        lr=_LR,
        num_silos=len(made),
        on_round_end=lambda done: ends.append(time.process_time()),
        **settings,
    )
    strategy.start(InProcessGrid(app, len(made)), start, num_rounds=count + 1)
    return [1e3 * (after - before) for before, after in pairwise(ends)]


def pieces(start: ArrayRecord, made: list[RecordDict], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of CPU time of each step of a weight round's arithmetic, without exchanges, events and messages."""
    n, layout = len(made), Layout.of(start)
    model, matrix = layout.split(start), Matrix()
    matrix.reserve(n, layout)
    silos = [Silo(node_id, f"silo {node_id}") for node_id in range(n)]
    options = FedLAW(max_byzantine=0.2, lr=_LR, num_silos=n)
    found: dict[str, list[float]] = {}

    def note(part: str, work: Callable[[], Any]) -> Any:
        kept: list[Any] = []
        found.setdefault(part, []).append(cpu(lambda: kept.append(work())))
        return kept[0]

    def decode() -> np.ndarray:
        return np.array([gate.read_update(made[i], model, matrix.updates[i], matrix.buffers[i]) for i in range(n)])

    decode()
    norms = decode()
    G, w32, half = matrix.updates, np.full(n, 1 / n, np.float32), n // 2
    for _ in range(repeats):
        note("w @ G", lambda: w32 @ G)
        note("copy of G", lambda: np.copyto(G[:half], G[n - half :]))  # of half of it: decoding makes it anew
        found["copy of G"][-1] *= n / half
        norms = note("decode, subtract, norm", decode)
        learning = WeightLearning(options, n, 0.2, _LR, 0)
        losses = np.linspace(1.0, 2.0, n)
        first = Updates(silos, matrix.updates, losses, norms, n, 0, np.ones(n, bool))
        trial = note("clip", partial(learning.open, 1, first))
        assert isinstance(trial, Trial)
        got = Replies(silos, matrix.updates, matrix.buffers, losses, norms, np.zeros(n), Outcome())
        note("trial step", partial(got.moved, model, trial.weights))
        update = matrix.updates[0].copy()

        def gather(trial: Trial = trial, update: np.ndarray = update, norm: float = float(norms[0])) -> None:
            for row in range(n):
                trial.direction.add(update, norm, trial.weights[row])

        note("z", gather)
        trial.losses[:] = losses
        step = note("alignment, scores, projection", partial(learning.close, trial, 0))
        assert isinstance(step, Step)
        note("step", partial(got.moved, model, step.weights))
    return found


def measured(n: int, d: int, repeats: int) -> list[dict[str, Any]]:
    """The rows of one size."""
    distinct = n if n * d < 3e8 else 2
    start, made = replies(n, d, distinct, reviewed=False)
    parts = pieces(start, made, repeats)
    parts["a weight round"] = rounds(start, made, repeats, weight_rounds=-1)
    parts["a held round"] = rounds(start, made, repeats, weight_rounds=0)
    if n * d < 4e8:  # the reviews are half a matrix more
        start, made = replies(n, d, distinct, reviewed=True)
        parts["a round of peer review"] = rounds(start, made, repeats, weight_rounds=-1, variant="review")
    unit, copy = median(parts["w @ G"]), median(parts["copy of G"])
    arithmetic = ("clip", "trial step", "z", "alignment, scores, projection", "step")
    parts["arithmetic on the matrix"] = [sum(median(parts[part]) for part in arithmetic)]
    rows = []
    for part, times in parts.items():
        reads, copies = FLOORS.get(part, (None, None))
        rows.append(
            {
                "n": n,
                "d": d,
                "part": part,
                "matvecs": round(median(times) / unit, 2),
                "floor": None if reads is None or copies is None else round(reads + copies * copy / unit, 2),
                "milliseconds": round(median(times), 2),
                "repeats": repeats,
            }
        )
    return rows


def main() -> None:
    """Measures the sizes named and puts their rows into the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=["50", "200"], help=", ".join(SIZES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=performance.FIGURES, help="the JSON file; its table goes beside it")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with threadpool_limits(1):
        for name in chosen.sizes:
            n, d = SIZES[name]
            new = measured(n, d, chosen.repeats)
            for row in new:
                print(
                    f"n = {n}, d = {d}: {row['part']}: {row['matvecs']} matvecs, {row['milliseconds']} ms", flush=True
                )
            before = performance.read(chosen.out).get(TABLE, {}).get("rows", [])
            rows = [row for row in before if (row["n"], row["d"]) != (n, d)] + new
            rows.sort(key=lambda row: (row["d"], row["n"]))
            performance.write(chosen.out, TABLE, {"machine": described(LIBRARIES), "rows": rows})


if __name__ == "__main__":
    main()
