"""Flower's own examples with FedLAW in the strategy line: `python -m benchmarks.quickstarts FOLDER`.

FOLDER is the folder `examples` of a checkout of https://github.com/adap/flower. Each example is copied, one statement
of its `server_app.py` is changed, and ten clients train in this process, three of them hostile. Its loaders ask the
package `datasets` for data, which answers from scikit-learn; no other line differs and nothing is downloaded. With
`--mnist ROOT` the examples that ask for MNIST have MNIST itself, and their own run config. What a client has loaded is
kept for its next message. One row a run, appended to a CSV as it ends, then the table of
docs/research/quickstarts.md. An example whose framework is missing is named and left out. They need, beside this
project:

    pip install flwr-datasets torchvision pytorch-lightning tensorflow jax flax optax 'mlx[cpu]'
"""

import argparse
import ast
import importlib
import logging
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context, set_start_method
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from flwr.serverapp.strategy import FedAvg, Result

from benchmarks.stand_in import stand_in
from fedlaw_flwr import FedLAW
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.strategy.account import RunResult
from fedlaw_flwr.studies.table import Row, opened

CLIENTS, HOSTILE = 10, (1, 4, 8)
_JAX_CACHE = str(Path(tempfile.gettempdir()) / "fedlaw-quickstarts-jax")
"""JAX's example compiles its step anew for every message; from here the same step is read again."""
FURTHER = 3
"""How many times as far as it has learned a hostile client goes the opposite way."""


@dataclass(frozen=True)
class Example:
    """One example, and what is told to it beside the strategy line.

    Attributes:
        package: Its Python package.
        trains: How its clients train, in words.
        fedlaw: The strategy line with FedLAW.
        config: The run config, where it differs from the example's own: its data sets are larger than ours.
        asks_mnist: Whether MNIST is what it asks for.
    """

    package: str
    trains: str
    fedlaw: str = "FedLAW(max_byzantine=3)"
    config: Mapping[str, Any] = field(default_factory=dict)
    asks_mnist: bool = False


EXAMPLES = {
    "quickstart-pytorch": Example("pytorchexample", "SGD, momentum 0.9", config={"num-server-rounds": 12}),
    "quickstart-pytorch-lightning": Example(
        "pytorchlightning_example", "Adam", config={"num-server-rounds": 3}, asks_mnist=True
    ),
    "quickstart-tensorflow": Example("tfexample", "Adam", config={"num-server-rounds": 5}),
    "quickstart-jax": Example(
        "jaxexample", "SGD, momentum 0.9", config={"num-server-rounds": 12, "batch-size": 28}, asks_mnist=True
    ),
    "quickstart-mlx": Example("mlxexample", "SGD", config={"num-server-rounds": 12, "batch-size": 16}, asks_mnist=True),
    "quickstart-sklearn": Example("sklearnexample", "one epoch of saga"),
    "fl-tabular": Example("fltabular", "Adam", fedlaw='FedLAW(max_byzantine=3, variant="alignment")'),
}
METHODS = ("FedAvg", "FedLAW", "FedAvg, nobody hostile")
FIELDS = ("example", "data", "method", "seed", "rounds", "metric", "value", "caught", "wronged", "no_weight", "seconds")
MEASURES = ("accuracy", "eval_acc", "eval_loss")
"""Under which names the examples' clients report how good a model is."""


# -- what is changed: one statement --------------------------------------------------------------------------------


def with_strategy(source: str, line: str) -> str:
    """The text of a `server_app.py` with its `FedAvg(...)` and the import of it replaced.

    Args:
        source: The text.
        line: A call of FedAvg or FedLAW.

    Raises:
        ValueError: If there is not exactly one call of FedAvg and one import of it.
    """
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and _name(node) == "FedAvg"]
    imported = "from flwr.serverapp.strategy import FedAvg\n"
    if len(calls) != 1 or source.count(imported) != 1:
        raise InputError(f"one import and one call of FedAvg are expected; there are {len(calls)} calls")
    call = ast.get_source_segment(source, calls[0])
    assert call is not None
    if "FedLAW" in line:
        source = source.replace(imported, "from fedlaw_flwr import FedLAW\n")
    return source.replace(call, line)


def _name(call: ast.Call) -> str | None:
    return call.func.id if isinstance(call.func, ast.Name) else None


# -- one run ---------------------------------------------------------------------------------------------------------


def opposite(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A Flower mod of a hostile client: replies the opposite of what it has learned, three times as far."""
    reply = call_next(message, context)
    received, trained = message.content["arrays"], reply.content["arrays"]
    assert isinstance(received, ArrayRecord) and isinstance(trained, ArrayRecord)
    away = {name: _away(received[name].numpy(), trained[name].numpy()) for name in trained}
    reply.content["arrays"] = ArrayRecord({name: Array(value) for name, value in away.items()})
    return reply


def _away(received: Any, trained: Any) -> Any:
    return received - FURTHER * (trained - received) if np.issubdtype(trained.dtype, np.floating) else trained


def one(folder: Path, name: str, method: str, seed: int, mnist: Path | None = None, rounds: int | None = None) -> Row:
    """One run of one example, in a process of its own: its packages stay imported and torch and TensorFlow seeded.

    Args:
        folder: The folder of the examples.
        name: The example.
        method: One of `METHODS`.
        seed: Of the order of the data and of the frameworks.
        mnist: torchvision's folder of MNIST, for an example that asks for MNIST; None: scikit-learn's data stand in.
        rounds: How many, in place of what the run config says.

    Returns:
        The row of the CSV.

    Raises:
        ModuleNotFoundError: If its framework is not installed.
    """
    _prepared()
    stand_in(seed, mnist)
    example = EXAMPLES[name]
    told = ({} if mnist else dict(example.config)) | ({} if rounds is None else {"num-server-rounds": rounds})
    with _copied(folder / name, example, method, told) as config:
        module: Any = importlib.import_module(f"{example.package}.client_app")
        module.load_data = cache(module.load_data)  # loading takes longer than training, and some split anew each time
        client = module.app
        server = importlib.import_module(f"{example.package}.server_app").app
        seeded(seed)
        results: list[Result] = []
        for kind in (FedAvg, FedLAW):
            _record(kind, results)
        hostile = () if "nobody" in method else HOSTILE
        grid = InProcessGrid(clients(client, hostile), CLIENTS, config)
        began = time.perf_counter()
        with redirect_stdout(sys.stderr):
            server(grid, Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config))
        seconds = time.perf_counter() - began
        metric, value = measured(InProcessGrid(clients(client, ()), CLIENTS, config), results[0].arrays)
    out = without_weight(results[0])
    return {
        "example": name,
        "data": data_of(mnist),
        "method": method,
        "seed": str(seed),
        "rounds": str(config["num-server-rounds"]),
        "metric": metric,
        "value": f"{value:.6g}",
        "caught": str(len(out & set(HOSTILE))) if out is not None else "",
        "wronged": str(len(out - set(HOSTILE))) if out is not None else "",
        "no_weight": " ".join(map(str, sorted(out))) if out is not None else "",
        "seconds": f"{seconds:.0f}",
    }


def _prepared() -> None:
    """Makes this process one for an example: one thread, no network, no GPU, quiet, JAX's steps kept on disk."""
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_COMPILATION_CACHE_DIR": _JAX_CACHE,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    set_start_method(None, force=True)  # the system's own for an example's workers, not that of this process
    logging.disable(logging.WARNING)


def data_of(mnist: Path | None) -> str:
    """What the column `data` says."""
    return "scikit-learn" if mnist is None else "MNIST"


def seeded(seed: int) -> None:
    """Seeds the global random numbers of NumPy and of the frameworks that the example has imported."""
    np.random.seed(seed)
    for module, how in (("torch", "manual_seed"), ("keras.utils", "set_random_seed"), ("mlx.core.random", "seed")):
        if module.partition(".")[0] in sys.modules:
            getattr(importlib.import_module(module), how)(seed)


@contextmanager
def _copied(example: Path, told: Example, method: str, changed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A copy of the example with its strategy line changed, as working folder and importable; gives its run config."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(shutil.copytree(example, Path(place) / example.name))
        path = copy / told.package / "server_app.py"
        line = told.fedlaw if method == "FedLAW" else "FedAvg()"
        path.write_text(with_strategy(path.read_text(encoding="utf-8"), line), encoding="utf-8")
        config = tomllib.loads((copy / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]["config"]
        before = Path.cwd()
        os.chdir(copy)  # the examples save their models here
        sys.path.insert(0, str(copy))
        try:
            yield config | dict(changed)
        finally:
            os.chdir(before)


def _record(kind: Any, results: list[Result]) -> None:
    """Keeps what a strategy's `start` returns, which the examples save in formats of their own."""
    start = kind.start

    def recorded(self: Any, *args: Any, **kwargs: Any) -> Result:
        result: Result = start(self, *args, **kwargs)
        results.append(result)
        return result

    kind.start = recorded


def clients(app: ClientApp, hostile: Sequence[int]) -> Any:
    """From partition to ClientApp: the example's own, with a mod around it where the client is hostile."""

    def honest(message: Message, context: Context) -> Message:
        reply = app(message, context)
        if "jax" in sys.modules:  # its example compiles a step for every message, and hundreds end the process
            sys.modules["jax"].clear_caches()
        return reply

    liar = ClientApp(mods=[opposite])
    liar.train()(honest)
    return lambda partition: liar if partition in hostile else honest


def measured(grid: InProcessGrid, arrays: ArrayRecord) -> tuple[str, float]:
    """What the clients' own `evaluate` finds on the records that they hold back, weighed by their number."""
    content = RecordDict({"arrays": arrays, "config": ConfigRecord()})
    replies = grid.send_and_receive([Message(content, node, MessageType.EVALUATE) for node in grid.get_node_ids()])
    found = [next(iter(reply.content.metric_records.values())) for reply in replies if reply.has_content()]
    if not found:
        raise InputError("no client could evaluate the model: is a batch larger than the records that it holds back?")
    metric = next(name for name in MEASURES if name in found[0])
    weights = [float(str(metrics["num-examples"])) for metrics in found]
    return metric, float(np.average([float(str(metrics[metric])) for metrics in found], weights=weights))


def without_weight(result: Result) -> set[int] | None:
    """The clients that end without weight; None for a strategy that gives none."""
    if not isinstance(result, RunResult) or result.verdict is None:
        return None
    first = 2  # the node id of partition 0 in `InProcessGrid`
    return {int(row.silo.split()[-1]) - first for row in result.verdict if row.outcome != "weight"}


# -- all of them -----------------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    """Markdown: for each example the mean over its seeds, in per cent where it is an accuracy, and who was caught."""
    lines = ["| example | data | local training | rounds | seeds | " + " | ".join(METHODS) + " | caught | wronged |"]
    lines.append("|---" * (7 + len(METHODS)) + "|")
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["example"], row["data"], row["rounds"]), []).append(row)
    names = list(EXAMPLES)
    for name, data, rounds in sorted(groups, key=lambda group: (names.index(group[0]), group[1], int(group[2]))):
        own = groups[name, data, rounds]
        by = {method: [row for row in own if row["method"] == method] for method in METHODS}
        last = by["FedLAW"]
        if not last:
            continue
        cells = [name, data, EXAMPLES[name].trains, rounds, " ".join(row["seed"] for row in last)]
        cells += [_shown(by[method]) for method in METHODS]
        cells += [", ".join(row[what] for row in last) for what in ("caught", "wronged")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shown(rows: Sequence[Row]) -> str:
    if not rows:
        return "not measured"
    value = mean(float(row["value"]) for row in rows)
    return f"loss {value:.3g}" if rows[0]["metric"] == "eval_loss" else f"{100 * value:.1f}"


def main() -> None:
    """Runs what the CSV lacks, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder `examples` of a checkout of Flower's repository")
    parser.add_argument("--only", nargs="+", choices=EXAMPLES, default=list(EXAMPLES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--mnist",
        type=Path,
        help="torchvision's folder of MNIST: runs the examples that ask for MNIST alone, with their own run config",
    )
    parser.add_argument("--rounds", type=int, help="in place of what the run config says")
    parser.add_argument("--out", type=Path, default=Path("docs/research/quickstarts.csv"))
    chosen = parser.parse_args()
    mnist = chosen.mnist and chosen.mnist.absolute()
    processes = ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1)
    with opened(chosen.out, FIELDS) as results, processes:
        done = {
            (row["example"], row["method"], int(row["seed"]))
            for row in results.rows
            if row["data"] == data_of(mnist) and chosen.rounds in (None, int(row["rounds"]))
        }
        cells = [
            (name, method, seed)
            for seed in chosen.seeds
            for methods in (METHODS[:2], METHODS[2:])  # what is compared first
            for name in chosen.only
            for method in methods
            if method in chosen.methods and (EXAMPLES[name].asks_mnist or chosen.mnist is None)
        ]
        for cell in cells:
            if cell in done:
                continue
            try:
                run = processes.submit(one, chosen.folder.absolute(), *cell, mnist, chosen.rounds)
                results.append(dict(run.result()))
            except ModuleNotFoundError as missing:
                print(f"{cell[0]}: not run, {missing}")
        print(table(results.rows))


if __name__ == "__main__":
    main()
