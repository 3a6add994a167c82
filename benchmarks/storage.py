"""The updates in memory, in a file (`matrix-in`), and in bfloat16: `python -m benchmarks.storage [--folder DIR]`.

Each takes one weighted sum of 50 random updates of two million parameters, what FedLAW's step is: the seconds as a
ratio to memory's in the same turn, medians of five turns, and how far the sum is from that in float32. The file is
read once as the system has cached it and once after the cache has let go of it. bfloat16 is not in the project: it is
held here as 16-bit numbers, and widened block by block.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks import machine, performance
from fedlaw_flwr.core.blocks import columns, rounded_sum

SILOS, PARAMETERS, TURNS = 50, 2_000_000, 5


def to_bfloat16(rows: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Rounded to the nearest, ties to even; finite numbers alone."""
    bits = rows.view(np.uint32)
    rounded: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded


def from_bfloat16(rows: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The same numbers in float32."""
    return (rows.astype(np.uint32) << 16).view(np.float32)


def wide_sum(weights: NDArray[np.float64], rows: NDArray[np.uint16]) -> NDArray[np.floating]:
    """`rounded_sum` of rows in bfloat16."""
    result = np.empty(rows.shape[1], np.float32)
    for block in columns(len(rows), rows.shape[1], 2**18):
        result[block] = rounded_sum(weights, from_bfloat16(rows[:, block]))
    return result


def main() -> None:
    """Measures, prints a line each, and writes the table of docs/performance.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the file lies")
    folder = parser.parse_args().folder
    random = np.random.default_rng(0)
    rows = random.standard_normal((SILOS, PARAMETERS), np.float32)
    weights = random.dirichlet(np.ones(SILOS))
    halves = to_bfloat16(rows)
    exact = rounded_sum(weights, rows)
    taken: dict[str, list[float]] = {}
    errors: dict[str, float] = {}

    def timed(
        name: str, total: Callable[[NDArray[np.float64], Any], NDArray[np.floating]], matrix: NDArray[Any]
    ) -> None:
        began = time.perf_counter()
        found = total(weights, matrix)
        taken.setdefault(name, []).append(time.perf_counter() - began)
        errors[name] = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))

    with threadpool_limits(1), tempfile.NamedTemporaryFile(dir=folder) as file:
        rows.tofile(file.file)
        file.flush()
        os.fsync(file.fileno())
        held = np.asarray(np.memmap(file.name, np.float32, "r", shape=rows.shape))
        for _ in range(TURNS):
            timed("float32 in memory", rounded_sum, rows)
            timed("float32 in a file that is cached", rounded_sum, held)
            timed("bfloat16 in memory", wide_sum, halves)
            del held
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            held = np.asarray(np.memmap(file.name, np.float32, "r", shape=rows.shape))
            timed("float32 in a file that is not cached", rounded_sum, held)
    base = taken["float32 in memory"]
    found = [
        {
            "what": name,
            "ratio": round(median(one / other for one, other in zip(seconds, base, strict=True)), 1),
            "error": float(f"{errors[name]:.1e}"),
        }
        for name, seconds in taken.items()
    ]
    for row in found:
        print(f"{row['what']}: {row['ratio']} times, error {row['error']}")
    told = machine.described(("numpy",), f"one thread used; {machine.busy()}")
    size = {"n": SILOS, "d": PARAMETERS, "seconds": round(median(base), 3)}
    performance.write(performance.FIGURES, "storage", {"machine": told, **size, "rows": found})


if __name__ == "__main__":
    main()
