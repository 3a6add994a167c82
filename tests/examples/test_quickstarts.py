"""The benchmark of Flower's own examples changes one statement of each, and its stand-in data are what they ask for."""

import ast

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import Result

from benchmarks.quickstarts import (
    EXAMPLES,
    FIELDS,
    HOSTILE,
    METHODS,
    clients,
    table,
    with_strategy,
    without_weight,
)
from benchmarks.stand_in import data
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.strategy.account import RunResult, SiloVerdict, VerdictTable

SERVER = """from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

rounds = 3
strategy = FedAvg(
    fraction_train=0.5,
)
result = strategy.start(grid, arrays, num_rounds=rounds)
"""


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_only_the_import_and_the_strategy_line_differ_and_two_arguments_suffice(example):
    changed = with_strategy(SERVER, example.fedlaw)
    assert changed.splitlines() == [
        "from flwr.serverapp import Grid, ServerApp",
        "from fedlaw_flwr import FedLAW",
        "",
        "rounds = 3",
        f"strategy = {example.fedlaw}",
        "result = strategy.start(grid, arrays, num_rounds=rounds)",
    ]
    call = ast.parse(example.fedlaw, mode="eval").body
    assert isinstance(call, ast.Call) and not call.args and 1 <= len(call.keywords) <= 2


def test_the_reference_keeps_the_import_of_fedavg():
    assert with_strategy(SERVER, "FedAvg()").splitlines()[1] == "from flwr.serverapp.strategy import FedAvg"


@pytest.mark.parametrize("source", ["strategy = FedAvg()\n", SERVER + "other = FedAvg()\n", "print(1)\n"])
def test_a_server_app_of_another_shape_is_refused(source):
    with pytest.raises(InputError, match="one import and one call of FedAvg are expected"):
        with_strategy(source, "FedAvg()")


@pytest.mark.parametrize(("name", "count"), [("hitorilabs/iris", 150), ("scikit-learn/adult-census-income", 569)])
def test_every_record_of_a_table_is_dealt_with_its_own_label_in_an_order_of_the_seed(name, count):
    one, again, other = (data(name, seed)["train"] for seed in (0, 0, 1))
    assert one == again != other and {len(values) for values in one.values()} == {count}
    assert sorted(zip(*one.values(), strict=True)) == sorted(zip(*other.values(), strict=True))


def test_no_test_image_is_trained_on_and_they_have_the_size_that_the_example_expects():
    splits = data("uoft-cs/cifar10", 0)
    train, test = ({np.asarray(image).tobytes() for image in splits[which]["img"]} for which in ("train", "test"))
    assert not train & test and len(splits["train"]["img"]) + len(splits["test"]["img"]) == 1797
    assert {(image.mode, image.size) for image in splits["train"]["img"]} == {("RGB", (32, 32))}
    assert {image.size for image in data("ylecun/mnist", 0)["train"]["image"]} == {(28, 28)}


def written_mnist(root, images, labels):
    """MNIST's four files with these images and labels in each split, as torchvision looks for them."""
    (raw := root / "MNIST" / "raw").mkdir(parents=True)
    for split in ("train", "t10k"):
        for kind, values in (("images-idx3", images), ("labels-idx1", np.uint8(labels))):
            header = [0x800 + values.ndim, *values.shape]
            (raw / f"{split}-{kind}-ubyte").write_bytes(np.array(header, dtype=">i4").tobytes() + values.tobytes())


def test_mnist_itself_is_dealt_image_and_label_together_where_its_files_are_at_hand(tmp_path):
    images, labels = np.arange(4 * 28 * 28).reshape(4, 28, 28) % 251, [7, 3, 9, 1]
    written_mnist(tmp_path, images.astype(np.uint8), labels)
    train = data("ylecun/mnist", 0, tmp_path)["train"]
    assert sorted(train["label"]) == sorted(labels) and len(train["image"]) == 4
    dealt = {label: np.asarray(image) for image, label in zip(train["image"], train["label"], strict=True)}
    for image, label in zip(images, labels, strict=True):
        assert np.array_equal(dealt[label], image)


def test_data_that_no_example_asks_for_are_refused():
    with pytest.raises(InputError, match="no data stand in for 'other'"):
        data("other", 0)


def test_a_hostile_client_replies_the_opposite_three_times_as_far_and_leaves_counters_alone():
    app = ClientApp()

    @app.train()
    def train(message, context):
        trained = {"w": Array(np.float32([1.5, 2.0])), "batches": Array(np.int64([7]))}
        return Message(RecordDict({"arrays": ArrayRecord(trained)}), reply_to=message)

    received = ArrayRecord({"w": Array(np.float32([1.0, 2.0])), "batches": Array(np.int64([5]))})
    grid = InProcessGrid(clients(app, HOSTILE), 10)
    nodes = {0: 2, HOSTILE[0]: HOSTILE[0] + 2}
    told = {}
    for partition, node in nodes.items():
        (answer,) = grid.send_and_receive([Message(RecordDict({"arrays": received}), node, "train")])
        told[partition] = [values.numpy().tolist() for values in answer.content["arrays"].values()]
    assert told == {0: [[1.5, 2.0], [7]], HOSTILE[0]: [[-0.5, 2.0], [7]]}


def test_who_is_without_weight_is_read_from_the_verdict_and_nothing_from_fedavg():
    rows = [
        SiloVerdict(f"node {partition + 2}", weight, outcome, None, 0, 0, "")
        for partition, weight, outcome in ((0, 0.5, "weight"), (1, 0.0, "no weight"), (9, None, "absent"))
    ]
    result = RunResult(arrays=ArrayRecord())
    result.verdict = VerdictTable(tuple(rows), 3)
    assert without_weight(result) == {1, 9}
    assert without_weight(Result()) is None


def test_a_run_that_is_not_there_yet_is_said_in_the_table():
    row = dict.fromkeys(FIELDS, "") | {"example": "quickstart-mlx", "data": "MNIST", "method": "FedLAW", "seed": "0"}
    row |= {"rounds": "12", "metric": "accuracy", "value": "0.912", "caught": "3", "wronged": "0"}
    line = table([row]).splitlines()[-1]
    cells = {"FedAvg": "not measured", "FedLAW": "91.2", "FedAvg, nobody hostile": "not measured"}
    measured = " | ".join(cells[name] for name in METHODS)
    assert line == f"| quickstart-mlx | MNIST | SGD | 12 | 0 | {measured} | 3 | 0 |"
