"""What LoRA adapters of a small transformer cost the server: `python -m benchmarks.adapters`.

Runs examples/adapters, ten clients of which three are hostile. Prints the peak memory and the seconds of the processor.
It needs `peft`.
"""

import argparse
import runpy
import time
import tracemalloc
from pathlib import Path

from flwr.app import Message

from fedlaw_flwr.engines.in_process import InProcessGrid


class TimedGrid(InProcessGrid):
    """Adds the processor seconds that its clients take to `spent`."""

    spent = 0.0

    def _answer(self, message: Message) -> Message:
        began = time.process_time()
        answer = super()._answer(message)
        TimedGrid.spent += time.process_time() - began
        return answer


def main() -> None:
    """Runs it and prints a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "adapters" / "run.py"))
    example["base"]()  # is trained here, once
    example["main"].__globals__["InProcessGrid"] = TimedGrid
    tracemalloc.start()  # what torch holds, which is the clients', is not counted
    began = time.process_time()
    _, _, numbers = example["main"](["--rounds", str(rounds)])
    total, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    print(f"a message: {numbers} numbers, {4 * numbers / 1e3:.1f} kB")
    print(f"server's peak memory, with what clients allocate in Python: {peak / 1e6:.1f} MB")
    print(f"a round: {total / rounds:.2f} s, of it the server {(total - TimedGrid.spent) / rounds:.2f} s")


if __name__ == "__main__":
    main()
