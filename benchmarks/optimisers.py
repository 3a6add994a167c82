"""FedLAW over clients that do not train by plain SGD, with `lr` given and without: `python -m benchmarks.optimisers`.

Digits, 10 clients, 3 of them hostile, 20 rounds, a perceptron of 32 hidden units; a client takes 27 steps of 16
examples a round and reports the mean loss over its batches, as Flower's templates do. One row a run, appended to a CSV
as it ends, so that a study that was killed goes on; then the table of docs/research/optimisers.md.
"""

import argparse
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from sklearn.datasets import load_digits

from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import Event
from fedlaw_flwr.strategy import FedLAW, RuleStrategy
from fedlaw_flwr.strategy.base import MatrixStrategy
from fedlaw_flwr.studies.table import Row, opened

CLIENTS, HOSTILE, ROUNDS, STEPS, BATCH, HIDDEN = 10, 3, 20, 27, 16, 32
DECAY = 0.9
"""What the step of "decaying step" is multiplied by from round to round."""


@dataclass(frozen=True)
class Optimiser:
    """How a client trains: the optimiser, the step that a person would name, and what it is multiplied by a round."""

    build: Callable[[Iterable[torch.Tensor], float], torch.optim.Optimizer]
    lr: float
    decay: float = 1.0


OPTIMISERS = {
    "SGD": Optimiser(lambda p, lr: torch.optim.SGD(p, lr), 0.1),
    "momentum 0.9": Optimiser(lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9), 0.01),
    "Adam 1e-3": Optimiser(lambda p, lr: torch.optim.Adam(p, lr), 0.001),
    "Adam 1e-2": Optimiser(lambda p, lr: torch.optim.Adam(p, lr), 0.01),
    "weight decay": Optimiser(lambda p, lr: torch.optim.SGD(p, lr, weight_decay=0.001), 0.1),
    "decaying step": Optimiser(lambda p, lr: torch.optim.SGD(p, lr), 0.1, DECAY),
}
DEALS, ATTACKS, SEEDS = ("iid", "dirichlet"), ("inverted", "flipped", "none"), (0, 1, 2)
METHODS: dict[str, Callable[[float], MatrixStrategy]] = {
    "FedAvg": lambda lr: RuleStrategy("fedavg", max_byzantine=HOSTILE, lr=lr),
    "Multi-Krum": lambda lr: RuleStrategy("multi_krum", max_byzantine=HOSTILE, lr=lr),
    "FedLAW, lr": lambda lr: FedLAW(max_byzantine=HOSTILE, lr=lr),
    "FedLAW": lambda lr: FedLAW(max_byzantine=HOSTILE),
}
"""A strategy for clients whose step a person would name as lr; the last is told none."""

FIELDS = ("optimiser", "deal", "attack", "seed", "method", "accuracy", "caught", "wronged")
Cell = tuple[str, str, str, int]


@lru_cache(maxsize=1)
def _digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images to train on and to test, labels to train on and to test: every fifth is a test image."""
    digits = load_digits()
    images, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    held = torch.arange(len(labels)) % 5 == 0
    return images[~held], images[held], labels[~held], labels[held]


def dealt(deal: str, seed: int) -> list[torch.Tensor]:
    """Which training examples each client has: equal random shares, or by a Dirichlet(0.5) over clients per label."""
    labels, rng = _digits()[2].numpy(), np.random.default_rng([seed, 15])
    if deal == "iid":
        return [torch.tensor(part) for part in np.array_split(rng.permutation(len(labels)), CLIENTS)]
    parts: list[list[int]] = [[] for _ in range(CLIENTS)]
    for label in range(10):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cuts = (np.cumsum(rng.dirichlet([0.5] * CLIENTS))[:-1] * len(rows)).astype(int)
        for part, some in zip(parts, np.split(rows, cuts), strict=True):
            part += some.tolist()
    return [
        torch.tensor(part if len(part) >= BATCH else part + rng.integers(0, 1400, BATCH).tolist()) for part in parts
    ]


class Clients:
    """Ten clients that train side by side: one optimiser over stacked parameters is ten, as it works element-wise."""

    def __init__(self, cell: Cell) -> None:
        self.optimiser, deal, self.attack, self.seed = OPTIMISERS[cell[0]], *cell[1:]
        images, _, labels, _ = _digits()
        shares = dealt(deal, self.seed)
        own = [labels[rows] for rows in shares]
        if self.attack == "flipped":
            own[:HOSTILE] = [9 - some for some in own[:HOSTILE]]
        self.images, self.labels = torch.cat([images[rows] for rows in shares]), torch.cat(own)
        self.sizes = torch.tensor([len(rows) for rows in shares])[:, None]
        self.first = torch.cumsum(self.sizes, 0) - self.sizes
        self._done: tuple[int, int] = (0, 0)
        self._trained: list[torch.Tensor] = []
        self._losses = torch.zeros(CLIENTS)

    def app(self) -> ClientApp:
        """The ClientApp of each; it reads no lr from any message."""
        app = ClientApp()

        @app.train()
        def train(message: Message, context: Context) -> Message:
            config, arrays = message.content.config_records["config"], message.content.array_records["arrays"]
            partition = int(str(context.node_config["partition-id"]))
            now = int(str(config["server-round"])), int(str(config["exchange"]))
            received = arrays.to_torch_state_dict()
            if now != self._done:  # all get the same model in an exchange, so the first to be asked trains for all
                self._train(received, *now)
                self._done = now
            replied = {}
            for key, values in zip(received, self._trained, strict=True):
                own = values[partition]
                if self.attack == "inverted" and partition < HOSTILE:
                    own = 2 * received[key] - own
                replied[key] = Array(own.numpy().copy())
            metrics = MetricRecord({"train_loss": float(self._losses[partition]), "num-examples": 10})
            told = ConfigRecord({"partition-id": partition})
            return Message(RecordDict({"a": ArrayRecord(replied), "m": metrics, "c": told}), reply_to=message)

        return app

    def _train(self, received: dict[str, torch.Tensor], server_round: int, exchange: int) -> None:
        parameters = [torch.stack([value] * CLIENTS).requires_grad_() for value in received.values()]
        w1, b1, w2, b2 = parameters
        step = self.optimiser.lr * self.optimiser.decay ** (server_round - 1)
        optimiser = self.optimiser.build(parameters, step)
        chance = torch.Generator().manual_seed(1000 * self.seed + 10 * server_round + exchange)
        total = torch.zeros(CLIENTS)
        for _ in range(STEPS):
            picked = self.first + (torch.rand(CLIENTS, BATCH, generator=chance) * self.sizes).long()
            x, y = self.images[picked], self.labels[picked]
            hidden = torch.relu(torch.baddbmm(b1[:, None], x, w1.transpose(1, 2)))
            out = torch.baddbmm(b2[:, None], hidden, w2.transpose(1, 2))
            losses = F.cross_entropy(out.transpose(1, 2), y, reduction="none").mean(1)
            optimiser.zero_grad()
            losses.sum().backward()
            optimiser.step()
            total += losses.detach()
        self._trained, self._losses = [value.detach() for value in parameters], total / STEPS


def initial(seed: int) -> ArrayRecord:
    """The first model."""
    torch.manual_seed(seed)
    return ArrayRecord(
        torch.nn.Sequential(torch.nn.Linear(64, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 10)).state_dict()
    )


def accuracy(arrays: ArrayRecord) -> float:
    """The share of test images that the model names right."""
    w1, b1, w2, b2 = arrays.to_torch_state_dict().values()
    _, images, _, labels = _digits()
    return float((F.linear(torch.relu(F.linear(images, w1, b1)), w2, b2).argmax(1) == labels).float().mean())


def one(cell: Cell, strategy: MatrixStrategy) -> tuple[float, int | None, int | None]:
    """One run: the last model's accuracy, how many hostile clients ended without weight, and how many honest ones."""
    events: list[Event] = []
    strategy.on_event = events.append
    grid = InProcessGrid(Clients(cell).app(), CLIENTS)
    result = strategy.start(grid, initial(cell[3]), num_rounds=ROUNDS)
    run = Run.of(events)
    if not run.is_judged:
        return accuracy(result.arrays), None, None
    hostile = {f"silo {i}" for i in range(HOSTILE)} if cell[2] != "none" else set()
    return accuracy(result.arrays), len(run.excluded & hostile), len(run.excluded - hostile)


def table(rows: Sequence[Row], seeds: Sequence[int] = SEEDS) -> str:
    """Markdown: mean accuracy over the seeds in per cent; in brackets how many of 3 were caught, a digit a seed."""
    found: dict[tuple[str, ...], dict[int, Row]] = {}
    for row in rows:
        key = (row["deal"], row["attack"], row["optimiser"], row["method"])
        found.setdefault(key, {})[int(row["seed"])] = row
    lines = ["| data | attack | optimiser | " + " | ".join(METHODS) + " |", "|---" * (3 + len(METHODS)) + "|"]
    for deal in DEALS:
        for attack in ATTACKS:
            for optimiser in OPTIMISERS:
                cells = [found.get((deal, attack, optimiser, method), {}) for method in METHODS]
                if all(seed in cell for cell in cells for seed in seeds):
                    shown = [_shown([cell[seed] for seed in seeds], attack) for cell in cells]
                    lines.append(f"| {deal} | {attack} | {optimiser} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _shown(rows: Sequence[Row], attack: str) -> str:
    percent = f"{100 * mean(float(row['accuracy']) for row in rows):.1f}"
    if attack == "none" or not all(row["caught"] for row in rows):
        return percent
    return f"{percent} ({', '.join(row['caught'] for row in rows)})"


def main() -> None:
    """Runs what the CSV lacks, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--out", type=Path, default=Path("docs/research/optimisers.csv"))
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    with opened(chosen.out, FIELDS) as results:
        done = {tuple(row[name] for name in FIELDS[:5]) for row in results.rows}
        attacked = [(o, d, a, seed) for seed in chosen.seeds for a in ATTACKS[:2] for d in DEALS for o in OPTIMISERS]
        peaceful = [(o, d, ATTACKS[2], seed) for seed in chosen.seeds for d in DEALS for o in OPTIMISERS]
        for cell in (*attacked, *peaceful):
            for method, build in METHODS.items():
                if (*map(str, cell), method) not in done:
                    found: tuple[Any, ...] = one(cell, build(OPTIMISERS[cell[0]].lr))
                    results.append(dict(zip(FIELDS, (*cell, method, *found), strict=True)))
        print(table(results.rows, chosen.seeds))


if __name__ == "__main__":
    main()
