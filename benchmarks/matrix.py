"""Every rule against every attack: `python -m benchmarks.matrix digits` adds what is missing to a CSV and prints it.

One row a run, appended as it ends, so that a killed matrix goes on where it stopped. Two runs at a time.
"""

import argparse
import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.one_run import run_of
from fedlaw_flwr.attacks import ATTACKS
from fedlaw_flwr.rules import RULES
from fedlaw_flwr.studies.table import Row, opened

STRATEGIES = ("fedlaw", "bsum", *RULES)
# The sleeper wakes when the 20 weight rounds are over, so runs are longer than that.
COMMON: dict[str, Any] = {"num-silos": 20, "q": 0.6, "byzantine": 0.2, "max-byzantine": 0.2, "num-rounds": 25}
TASKS: dict[str, dict[str, Any]] = {
    "digits": {},
    # A tenth of the training split, one epoch a round: 260 runs a seed in twenty minutes of a core, not in three hours.
    # The step is the best of 0.05, 0.1, 0.2 on validation data (FedAvg, no attackers, seed 0: 88.3, 90.2, 91.4).
    "mnist": {"lr": 0.2, "batch-size": 32, "local-epochs": 1, "train-examples": 5600},
}
FIELDS = ("task", "strategy", "attack", "seed", "accuracy", "attack_success", "caught", "attackers", "wronged")


def one(task: str, strategy: str, attack: str, seed: int, data_dir: str) -> dict[str, Any]:
    """One run: its row."""
    from fedlaw_flwr.events.verdict import verdict
    from fedlaw_flwr.studies.worker import columns_of

    logging.disable(logging.CRITICAL)
    named = {"strategy": "fedlaw", "variant": "bsum"} if strategy == "bsum" else {"strategy": strategy}
    values = {**COMMON, **TASKS[task], **named, "task": task, "attack": attack, "seed": seed, "data-dir": data_dir}
    figures = columns_of(verdict(run_of(values)))
    return {**figures, "task": task, "strategy": strategy, "attack": attack, "seed": seed}


def table(rows: Sequence[Row], task: str) -> str:
    """Markdown: mean test accuracy in per cent, a row an attack, a column a strategy; the best defence in bold."""
    cells: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["task"] == task:
            cells.setdefault((row["attack"], row["strategy"]), []).append(100 * float(row["accuracy"]))
    columns = [name for name in STRATEGIES if any(strategy == name for _, strategy in cells)]
    lines = ["| attack | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for attack in ("none", *ATTACKS):
        values = {name: mean(cells[attack, name]) for name in columns if (attack, name) in cells}
        if not values:
            continue
        best = max((value for name, value in values.items() if name != "ideal"), default=0.0)
        shown = [
            ("**{:.1f}**" if values[n] == best and n != "ideal" else "{:.1f}").format(values[n]) if n in values else ""
            for n in columns
        ]
        lines.append(f"| {attack} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    """Runs what the CSV lacks, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--out", type=Path, default=Path("docs/research/matrix.csv"))
    chosen = parser.parse_args()
    wanted = [
        (chosen.task, strategy, attack, seed)
        for seed in chosen.seeds
        for attack in ("none", *ATTACKS)
        for strategy in STRATEGIES
    ]
    with opened(chosen.out, FIELDS) as results, ProcessPoolExecutor(2) as pool:
        done = {(row["task"], row["strategy"], row["attack"], int(row["seed"])) for row in results.rows}
        futures = [pool.submit(one, *cell, chosen.data_dir) for cell in wanted if cell not in done]
        for future in as_completed(futures):
            results.append(future.result())
        print(table(results.rows, chosen.task))


if __name__ == "__main__":
    main()
