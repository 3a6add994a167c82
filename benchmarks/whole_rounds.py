"""Seconds an exchange of our strategies and of Flower's FedAvg in Ray: `python -m benchmarks.whole_rounds`.

All of them run in one simulation of Flower's, over the same ClientApp and the same actors, in turns. So nothing of a
start is in the figures: each is the time from one call of evaluate_fn to the next, divided by the exchanges of the
round, and beside it the CPU seconds of all processes. FedLAW asks every silo to train in exchange 2 too, so that every
exchange is the same work for the silos. A review is one gradient more, so peer review is held against a FedAvg whose
silos take a review and do not send it.
"""

import argparse
import cProfile
import logging
import os
import pstats
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from threadpoolctl import threadpool_limits

from benchmarks import performance
from benchmarks.engines import MARK, cpu_seconds
from benchmarks.honest_silo import UNSENT, client_app, task_of
from benchmarks.machine import busy, described
from fedlaw_flwr.strategy import FedLAW, RuleStrategy

_LR = 0.05


@dataclass(frozen=True)
class Method:
    """A strategy and how it is run.

    Attributes:
        exchanges: How many exchanges a round has.
        build: Makes the strategy for so many silos.
        reviews: Whether silos are told to take a review and not to send it. Default: no.
    """

    exchanges: int
    build: Callable[[int], Any]
    reviews: bool = False


def _fedlaw(n: int, variant: str) -> FedLAW:
    return FedLAW(
        max_byzantine=0.2,
        lr=_LR,
        num_silos=n,
        loss_key="loss",
        variant=variant,
        weight_rounds=-1,
        loss_only_replies=False,
    )


METHODS = {
    "Flower's FedAvg": Method(1, lambda n: FedAvg(fraction_evaluate=0.0)),
    "our FedAvg": Method(1, lambda n: RuleStrategy("fedavg", max_byzantine=0.2, lr=_LR, num_silos=n, loss_key="loss")),
    "FedLAW": Method(2, lambda n: _fedlaw(n, "fedlaw")),
    "Flower's FedAvg, silos take a review too": Method(1, lambda n: FedAvg(fraction_evaluate=0.0), reviews=True),
    "peer review": Method(1, lambda n: _fedlaw(n, "review")),
}
BASE = "Flower's FedAvg"
BASES = {"peer review": "Flower's FedAvg, silos take a review too"}
"""To whose seconds a method's are divided, where that is not `BASE`."""

Seconds = tuple[float, float]
"""By the clock, and of all processors."""


@dataclass
class Found:
    """A method's median seconds an exchange, and the median of its ratios to the baseline of the same turn.

    Attributes:
        silos: How many silos there are.
        method: A key of `METHODS`.
        base: To whose seconds its own are divided.
        seconds: By the clock.
        ratio: Of these seconds.
        cpu: Of all processes.
        cpu_ratio: Of these.
        turns: How many ratios the medians are of.
    """

    silos: int
    method: str
    base: str
    seconds: float
    ratio: float
    cpu: float
    cpu_ratio: float
    turns: int


def one_turn(method: Method, grid: Grid, n: int, arrays: ArrayRecord, rounds: int) -> Seconds:
    """The median seconds an exchange, by the clock and by the processors."""
    times: list[Seconds] = []

    def note(server_round: int, model: ArrayRecord) -> MetricRecord | None:
        times.append((time.perf_counter(), cpu_seconds()))
        return None

    config = ConfigRecord({"lr": _LR, **({UNSENT: True} if method.reviews else {})})
    method.build(n).start(grid, arrays, num_rounds=rounds, train_config=config, evaluate_fn=note)
    both = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(times)]
    clock, cpu = (median(kind) / method.exchanges for kind in zip(*both, strict=True))
    return clock, cpu


def measure(n: int, turns: int, rounds: int, values: dict[str, Any], profiled: str = "") -> list[Found]:
    """Every method in one simulation of n silos, in turns; profiles the server's thread of one where it is named."""
    from flwr.simulation import run_simulation
    from flwr.supercore import telemetry

    telemetry.FLWR_TELEMETRY_ENABLED = "0"  # it has read the environment by now
    settings = {**values, "num-silos": n}
    taken: dict[str, list[Seconds]] = {name: [] for name in METHODS}
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        _, task = task_of(tuple(sorted(settings.items())))
        arrays = ArrayRecord(task.build_model(0).state_dict())
        vars(grid)["all_present"] = True
        while len(list(grid.get_node_ids())) < n:
            time.sleep(0.1)
        one_turn(METHODS[BASE], grid, n, arrays, 1)  # the actors load torch and their examples
        for turn in range(turns):
            for name, method in METHODS.items():
                profile = cProfile.Profile() if name == profiled else None
                if profile:
                    profile.enable()
                taken[name].append(one_turn(method, grid, n, arrays, rounds))
                if profile:
                    profile.disable()
                    pstats.Stats(profile).sort_stats("tottime").print_stats(25)
                clock, cpu = taken[name][-1]
                print(f"n = {n}, turn {turn + 1}, {name}: {clock:.3f} s an exchange, CPU {cpu:.3f} s", flush=True)

    run_simulation(server, client_app(settings), n)
    return [found(n, name, taken) for name in METHODS]


def found(n: int, name: str, taken: dict[str, list[Seconds]]) -> Found:
    base = BASES.get(name, BASE)

    def figures(which: int) -> tuple[float, float]:
        pairs = [(own[which], other[which]) for own, other in zip(taken[name], taken[base], strict=True)]
        return round(median(own for own, _ in pairs), 4), round(median(own / other for own, other in pairs), 3)

    return Found(n, name, base, *figures(0), *figures(1), turns=len(taken[name]))


def main() -> None:
    """Measures, and writes the figures and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--silos", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--turns", type=int, default=7, help="with 200 silos and more; three times as many with fewer")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of a turn")
    parser.add_argument("--data-dir", default="", help="torchvision's folder: MNIST instead of digits")
    parser.add_argument("--threads", type=int, default=1, help="of the server's products, for NumPy")
    parser.add_argument("--profile", default="", choices=["", *METHODS], help="prints where its server's thread is")
    parser.add_argument("--out", type=Path, default=performance.FIGURES, help="the JSON file; its table goes beside it")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    os.environ |= {"RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0", MARK: str(os.getpid())}
    task = {"task": "mnist", "data-dir": chosen.data_dir} if chosen.data_dir else {"task": "digits"}
    values = {**task, "lr": _LR, "local-epochs": 1, "batch-size": 64 if chosen.data_dir else 16}
    rows: list[dict[str, Any]] = []
    for n in chosen.silos:
        with threadpool_limits(chosen.threads):
            turns = chosen.turns * (1 if n >= 200 else 3)
            rows += [asdict(one) for one in measure(n, turns, chosen.rounds, values, chosen.profile)]
        for row in rows[-len(METHODS) :]:
            print(
                f"n = {n}, {row['method']}: {row['seconds']:.3f} s, {row['ratio']:.2f} x; CPU {row['cpu_ratio']:.2f} x",
                flush=True,
            )
    machine = described(
        ("numpy", "torch", "flwr", "ray"),
        f"Ray with one silo a core, {chosen.threads} for the server's products; {busy()}",
    )
    named = {"machine": machine, "task": task["task"], "rows": rows}
    performance.write(chosen.out, "whole_rounds", named)


if __name__ == "__main__":
    main()
