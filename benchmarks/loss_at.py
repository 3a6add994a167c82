"""Where a silo's loss is taken, decided on validation data: `python -m benchmarks.loss_at` prints the table."""

import logging
import tempfile
from pathlib import Path

from fedlaw_flwr.apps.byzantine.simulated import app
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.verdict import verdict
from fedlaw_flwr.simulation.in_process import run_in_process
from fedlaw_flwr.training.options import LOSS_AT

CASES = [
    ("inverse_gradient", 0.6, 0.2),
    ("inverse_gradient", 0.9, 0.4),
    ("label_flipping", 0.6, 0.2),
    ("label_flipping", 0.9, 0.4),
    ("none", 0.9, 0.4),
]
SEEDS = (0, 1, 2)


def main() -> None:
    """Digits, 20 silos, 20 rounds, FedLAW: validation accuracy, attackers caught and honest excluded, every case."""
    logging.disable(logging.CRITICAL)
    print("| attack | q | fraction | loss at | validation accuracy, seeds 0 1 2 | mean | caught | honest excluded |")
    print("|---|---|---|---|---|---|---|---|")
    for attack, q, fraction in CASES:
        for loss_at in LOSS_AT:
            settings = {"attack": attack, "q": q, "byzantine": fraction, "max-byzantine": fraction, "loss-at": loss_at}
            found = []
            for seed in SEEDS:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "run"
                    run_in_process(app, Settings.read({**settings, "seed": seed}), path)
                    found.append(verdict(Run.read(path)))
            accuracies = [100 * (v.validation_accuracy or 0.0) for v in found]
            listed = " ".join(f"{a:.1f}" for a in accuracies)
            caught = " ".join(f"{v.caught}/{v.attackers}" for v in found)
            wrongly = " ".join(str(v.wrongly_excluded) for v in found)
            mean = sum(accuracies) / len(accuracies)
            print(
                f"| {attack} | {q} | {fraction} | {loss_at} | {listed} | {mean:.1f} | {caught} | {wrongly} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
