"""What a checkpoint costs: seconds of the wall clock and of the processor, and bytes, by the size of the model.

`python -m benchmarks.checkpoint [FOLDER]` writes into a folder of its own in FOLDER, by default the working directory.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fedlaw_flwr.checkpoints.store import CHECKPOINTS, Checkpoints
from fedlaw_flwr.core.state import State
from fedlaw_flwr.events.folder import RunFolder

SIZES = (178_110, 10_000_000)
"""Parameters in float32; the first is the perceptron of the larger experiments."""
ROUNDS = 7


class _Settings:
    """As little as a run folder asks for."""

    strategy, task, attack = "fedlaw", "own", "none"

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir

    def as_config(self) -> dict[str, Any]:
        return {}


def cost(parameters: int, place: Path) -> tuple[float, float, float, int]:
    """Median and least seconds of a round's checkpoint, the processor's median seconds, and the bytes of one."""
    folder = RunFolder.create(_Settings(str(place)))
    checkpoints = Checkpoints(folder, {}, keep=3)
    state = State({"model": {}}, {"model.parameters": np.zeros(parameters, np.float32)})
    walls, processors = [], []
    for round_number in range(1, ROUNDS + 1):
        began, used = time.perf_counter(), time.process_time()
        checkpoints.begin(round_number)
        checkpoints.save(round_number, state)
        walls.append(time.perf_counter() - began)
        processors.append(time.process_time() - used)
    newest = (place / CHECKPOINTS).glob(f"round-{ROUNDS:06}.*")
    return median(walls), min(walls), median(processors), sum(path.stat().st_size for path in newest)


def main() -> None:
    """Prints the table."""
    print("parameters    median s    least s    processor s    bytes")
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else ".") as place:
        for size in SIZES:
            wall, least, processor, content = cost(size, Path(place) / str(size))
            print(f"{size:>10,}    {wall:8.3f}    {least:7.3f}    {processor:11.3f}    {content:,}")


if __name__ == "__main__":
    main()
