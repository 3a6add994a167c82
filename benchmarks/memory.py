"""The server's peak memory, in models: `python -m benchmarks.memory` fits peak = n + constant over n silos."""

import logging
import tracemalloc

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from benchmarks import performance
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.strategy import FedLAW

_PARAMETERS = 1_000_000
app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """A silo that replies a copy of what it received, in memory of its own: one reply is on the server's account."""
    arrays = {}
    received = message.content["arrays"]
    assert isinstance(received, ArrayRecord)
    for key, array in received.items():
        copied = bytes(memoryview(array.data))
        arrays[key] = Array(array.dtype, array.shape, array.stype, copied)
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"loss": 1.0})})
    return Message(content, reply_to=message)


def peak(num_silos: int) -> float:
    """Peak of what Python allocates during two weight rounds, in float32 models of a million parameters."""
    start = ArrayRecord({"w": Array(np.ones(_PARAMETERS, np.float32))})
    grid = InProcessGrid(app, num_silos)
    tracemalloc.start()
    FedLAW(max_byzantine=1, lr=0.1, num_silos=num_silos).start(grid, start, num_rounds=2)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / (4 * _PARAMETERS)


def main() -> None:
    """Measures the peak for several sizes, prints it and writes it into docs/performance.json and its page."""
    logging.disable(logging.CRITICAL)
    rows = []
    for num_silos in (6, 12, 24, 48):
        models = peak(num_silos)
        print(f"n = {num_silos}: {models:.2f} models, n + {models - num_silos:.2f}")
        rows.append({"n": num_silos, "models": round(models, 2)})
    performance.write(performance.FIGURES, "memory", {"rows": rows})


if __name__ == "__main__":
    main()
