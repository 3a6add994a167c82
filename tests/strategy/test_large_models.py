"""Models of 600 MB a message: a round over them, and the pieces in which Flower sends one."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.strategy import FedLAW

SIZE = 150_000_000  # float32 numbers, 600 MB
_PROTOBUF = 2**31  # bytes of a protobuf message, at most

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """A silo a thousandth of the way from the model to 1; nearer to it the loss is less."""
    value = message.content["arrays"]["w"].numpy()
    value += np.float32(1e-3) * (1 - value[:1])
    content = {"arrays": ArrayRecord({"w": Array(value)}), "metrics": MetricRecord({"loss": float(1 - value[0])})}
    return Message(RecordDict(content), reply_to=message)


@pytest.mark.slow
def test_a_weight_round_over_a_model_of_600_mb():
    start = ArrayRecord({"w": Array(np.zeros(SIZE, np.float32))})
    result = FedLAW(max_byzantine=0, lr=0.1, num_silos=2).start(InProcessGrid(app, 2), start, num_rounds=1)
    array = result.arrays["w"]
    assert len(array.data) > 600_000_000
    values = np.frombuffer(array.data, np.float32, offset=len(array.data) - 4 * SIZE)
    assert values[0] == pytest.approx(1e-3, rel=1e-5) and values.min() == values.max() == values[0]


@pytest.mark.slow
def test_flower_sends_an_array_of_600_mb_in_pieces_far_below_protobuf_s_limit():
    array = Array(np.zeros(SIZE, np.float32))
    pieces = [piece for _, piece in array.slice_array()]
    assert sum(len(piece.data) for piece in pieces) == len(array.data)
    assert max(len(piece.data) for piece in pieces) < _PROTOBUF / 50
