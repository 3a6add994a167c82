"""The clients in NumPy and in scikit-learn: they keep the protocol, are plain SGD, and train together under FedLAW."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, MessageType, RecordDict
from flwr.clientapp import ClientApp
from sklearn.datasets import load_breast_cancer, load_wine

from fedlaw_flwr.apps.shipped import client as shipped_client
from fedlaw_flwr.conformance import Probe, Terms, examine
from fedlaw_flwr.conformance.asking import ask
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.silo.config import SiloConfig
from fedlaw_flwr.strategy import FedLAW, RuleStrategy

EXAMPLES = Path(__file__).parents[2] / "examples"
KINDS = ("numpy_client", "sklearn_client")


def example(kind):
    """examples/KIND/client.py under a name of its own: both are called client."""
    spec = importlib.util.spec_from_file_location(kind, EXAMPLES / kind / "client.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[kind] = module
    spec.loader.exec_module(module)
    return module


numpy_client, sklearn_client = (example(kind) for kind in KINDS)
CLIENTS = {"numpy_client": numpy_client, "sklearn_client": sklearn_client}


def write(path, inputs, labels):
    names = [f"c{i}" for i in range(inputs.shape[1])]
    lines = [
        ",".join([*names, "label"]),
        *(",".join(map(str, [*row, int(y)])) for row, y in zip(inputs, labels, strict=True)),
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def arrays_of(weight, bias, dtype=np.float32):
    return ArrayRecord({"weight": Array(np.asarray(weight, dtype)), "bias": Array(np.asarray(bias, dtype))})


def zeros(rows, d):
    return arrays_of(np.zeros((rows, d)), np.zeros(rows))


@pytest.fixture(scope="module")
def cancer(tmp_path_factory):
    """Wisconsin's 569 records: six silos' files and node configs, and a fifth held out of all of them, standardised."""
    folder = tmp_path_factory.mktemp("cancer")
    data = load_breast_cancer()
    order = np.random.default_rng(0).permutation(len(data.target))
    test, rest = order[:113], order[113:]
    centre, scale = data.data[rest].mean(0), data.data[rest].std(0)
    options = {key: ",".join(f"{v:.6g}" for v in values) for key, values in (("centre", centre), ("scale", scale))}
    silos = []
    for i, share in enumerate(np.array_split(rest, 6)):
        path = write(folder / f"silo-{i}.csv", data.data[share], data.target[share])
        silos.append({"data-path": path, "classes": 2, **options})
    return silos, (data.data[test] - centre) / scale, data.target[test]


@pytest.fixture(scope="module")
def wine(tmp_path_factory):
    """178 wines of three classes in one file, and its node config."""
    data = load_wine()
    options = {
        key: ",".join(f"{v:.6g}" for v in values)
        for key, values in (("centre", data.data.mean(0)), ("scale", data.data.std(0)))
    }
    path = write(tmp_path_factory.mktemp("wine") / "wine.csv", data.data, data.target)
    return {"data-path": path, "classes": 3, **options}


# -- each by itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_keeps_the_protocol_to_the_letter(kind, dtype, cancer):
    silos, *_ = cancer
    probe = Probe(CLIENTS[kind].app, arrays_of(np.zeros((1, 30)), [0.0], dtype), Terms(), silos[0])
    findings = {found.check: found for found in examine(probe)}
    assert [found.what for found in findings.values() if found.kind == "wrong"] == []
    told = {name for name, found in findings.items() if found.kind == "note"}
    assert told == {"exchange_3", "no_lr", "leaves", "cost"}  # all else is "ok": momentum, evaluate, query too


@pytest.mark.parametrize("kind", KINDS)
def test_each_keeps_it_with_three_classes(kind, wine):
    findings = list(examine(Probe(CLIENTS[kind].app, zeros(3, 13), Terms(), wine)))
    assert [found.what for found in findings if found.kind == "wrong"] == []


@pytest.mark.parametrize(("kind", "rows"), [("numpy_client", 1), ("numpy_client", 3), ("sklearn_client", 1)])
def test_loss_and_step_are_autograds(kind, rows, cancer, wine):
    """One epoch of one batch of all records, with a step near 0: theta - psi is lr times the mean loss's gradient."""
    module, config = CLIENTS[kind], cancer[0][0] if rows == 1 else wine
    if kind == "numpy_client":
        training, _ = module.records_of(config)
        inputs, labels = training.inputs, training.labels
    else:
        inputs, _, labels, _ = module.records_of(config)
    rng = np.random.default_rng(1)
    start = rng.normal(scale=0.3, size=(rows, inputs.shape[1])), rng.normal(scale=0.3, size=rows)
    weight, bias = (torch.tensor(value, requires_grad=True) for value in start)
    z = torch.tensor(inputs) @ weight.T + bias
    if rows == 1:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z[:, 0], torch.tensor(labels, dtype=torch.float64))
    else:
        loss = torch.nn.functional.cross_entropy(z, torch.tensor(labels))
    loss.backward()
    probe = Probe(module.app, arrays_of(*start, np.float64), Terms(lr=1e-4), config)
    reply = probe.reply(probe.model, {"batch-size": len(labels)})
    assert reply.loss == pytest.approx(float(loss), rel=1e-9)
    gradient = np.concatenate([weight.grad.numpy().ravel(), bias.grad.numpy()])
    np.testing.assert_allclose(reply.delta / 1e-4, gradient, atol=1e-3 * np.abs(gradient).max())


def test_both_move_as_far_and_the_same_way_whatever_the_batch_size(cancer):
    """Where scikit-learn steps after each record, its step is lr over the batch size: equal to first order in lr."""
    config = cancer[0][0]
    *_, labels, _ = sklearn_client.records_of(config)
    sizes = [size for size in range(1, len(labels) + 1) if len(labels) % size == 0]  # no batch is short
    assert len(sizes) >= 4
    probes = [Probe(CLIENTS[kind].app, zeros(1, 30), Terms(lr=1e-4), config) for kind in KINDS]
    for size in sizes:
        one, other = (probe.reply(probe.model, {"batch-size": size}).delta for probe in probes)
        assert np.linalg.norm(one - other) < 0.01 * np.linalg.norm(one)


@pytest.fixture
def silo(cancer):
    """`fedlaw silo` with the NumPy client: a process of its own, a fork for each message. Gives its socket."""
    own = cancer[0][0]
    with tempfile.TemporaryDirectory(prefix="fedlaw-") as name:  # a socket's path must be short
        folder = Path(name)
        options = {key: own[key] for key in ("classes", "centre", "scale")}
        process = {"socket": str(folder / "silo.sock"), "state": str(folder / "state"), "options": options}
        config = {"name": "bonn", "client": "client:app", "data-path": own["data-path"], **process}
        (folder / "silo.yaml").write_text(json.dumps(config))
        with (folder / "log").open("wb") as log:
            running = subprocess.Popen(
                [Path(sys.executable).parent / "fedlaw", "silo", folder / "silo.yaml"],
                env={**os.environ, "PYTHONPATH": str(EXAMPLES / "numpy_client")},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            deadline = time.monotonic() + 60
            while "answers at" not in (folder / "log").read_text() and time.monotonic() < deadline:
                assert running.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
            yield process["socket"]
        finally:
            running.terminate()
            running.wait(10)


def test_the_whole_kit_passes_through_a_silos_own_process(silo):
    """Asked through the ClientApp that Flower ships, over the socket: another process, the same findings."""
    findings = {
        found.check: found for found in examine(Probe(shipped_client.app, zeros(1, 30), Terms(), {"socket": silo}))
    }
    assert [found.what for found in findings.values() if found.kind == "wrong"] == []
    assert findings["step"].kind == findings["query"].kind == findings["evaluate"].kind == "ok"
    assert "ValueError in the silo's client; its own log has the rest under" in findings["missing_array"].what


# -- together -------------------------------------------------------------------------------------------------------


def reversed_by(factor, app):
    """The same client, except that it replies theta - factor (psi - theta)."""

    def reverse(message, context, call_next):
        reply = call_next(message, context)
        if message.metadata.message_type == MessageType.TRAIN and "arrays" in reply.content:
            received, trained = message.content["arrays"], reply.content["arrays"]
            reply.content["arrays"] = ArrayRecord(
                {
                    key: Array(
                        received[key].numpy() - np.float32(factor) * (trained[key].numpy() - received[key].numpy())
                    )
                    for key in trained
                }
            )
        return reply

    hostile = ClientApp(mods=[reverse])
    hostile.train()(app._registered_funcs["train.default"])
    return hostile


def together(strategy, configs):
    """Six silos, three of each kind, of which silo 4 replies the opposite of what it learned."""
    apps = [CLIENTS[KINDS[i % 2]].app for i in range(6)]
    apps[4] = reversed_by(3, apps[4])
    grid = InProcessGrid(apps.__getitem__, 6, node_configs=configs)
    how = ConfigRecord({"local-epochs": 3, "batch-size": 16})
    return strategy.start(grid, zeros(1, 30), num_rounds=10, train_config=how)


def accuracy(result, inputs, labels):
    weight, bias = (result.arrays[key].numpy() for key in ("weight", "bias"))
    return np.mean(((inputs @ weight.T + bias)[:, 0] > 0) == labels)


def test_six_of_both_kinds_learn_together_and_the_hostile_one_loses_its_weight(cancer):
    configs, *held_out = cancer
    events = []
    strategy = FedLAW(max_byzantine=1, lr=0.1, beta=0.01, on_event=events.append, fraction_evaluate=1.0)
    result = together(strategy, configs)
    run = Run.of(events)
    weights = run.final_weights
    assert weights["node 6"] == 0.0  # partition 4
    assert all(weights[f"node {partition + 2}"] > 0.1 for partition in (0, 1, 2, 3, 5))
    assert not run.missing
    assert accuracy(result, *held_out) > 0.93
    assert result.evaluate_metrics_clientapp[10]["accuracy"] > 0.9  # the median of the silos' own figures
    averaged = together(RuleStrategy("fedavg", max_byzantine=1, lr=0.1), configs)
    assert accuracy(averaged, *held_out) < accuracy(result, *held_out) - 0.03


# -- what they say, refuse and import -------------------------------------------------------------------------------


def context(config):
    return Context(1, 2, config, RecordDict(), {})


def test_both_say_the_same_of_the_same_columns_and_nothing_of_the_records(cancer):
    replies = [ask(CLIENTS[kind].app, RecordDict(), context(cancer[0][0]), MessageType.QUERY, 5.0) for kind in KINDS]
    one, other = (dict(reply.content["description"]) for reply in replies)
    assert one == other
    assert one["task"] == "logistic regression"
    agreed = json.loads(one["description"])
    centre, scale = (cancer[0][0][key].split(",")[3] for key in ("centre", "scale"))
    assert agreed["column c3"] == f"numeric, minus {centre}, over {scale}"
    assert agreed["label"] == "class numbers 0 to 1"
    assert len(agreed) == 31


@pytest.mark.parametrize("kind", KINDS)
def test_each_refuses_a_model_of_another_shape_with_both_shapes_named(kind, cancer):
    probe = Probe(CLIENTS[kind].app, zeros(1, 29), Terms(), cancer[0][0])
    assert "{'weight': (1, 29), 'bias': (1,)} came where {'weight': (1, 30), 'bias': (1,)}" in probe.first.failure


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("a,b,label\n" + "1,2,3\n" * 9, {}, "must hold class numbers, 0 to 1"),
        ("a,b,label\n" + "1,2,0.5\n" * 9, {}, "must hold class numbers, 0 to 1"),
        ("a,b,label\n" + "1,2,0\n" * 9, {"centre": "1,2,3"}, "centre"),
    ],
)
def test_each_refuses_records_it_cannot_learn_from_before_the_first_message(tmp_path, kind, text, options, words):
    path = tmp_path / "records.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        CLIENTS[kind].prepare({"data-path": str(path), **options})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b,label\n" + "1,,0\n" * 9, "every line needs 3 numbers"),
        ("a,b,label\n" + "1,2,0\n" * 8 + "1,0\n", "every line needs 3 numbers"),
        ("a,b,label\n" + "1,inf,0\n" * 9, "5 records or more, of 3 finite numbers each"),
        ("a,b,label\n" + "1,2,0\n" * 4, "5 records or more, of 3 finite numbers each"),
    ],
)
def test_the_numpy_client_says_which_lines_it_needs(tmp_path, text, words):
    path = tmp_path / "records.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        numpy_client.prepare({"data-path": str(path)})


def test_the_numpy_client_imports_neither_torch_nor_scikit_learn():
    code = "import sys, client; print(sorted({'torch', 'sklearn', 'pandas', 'fedlaw_flwr'} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=EXAMPLES / "numpy_client", capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", KINDS)
def test_the_silo_yaml_of_each_page_is_one(tmp_path, kind, cancer):
    page = (EXAMPLES / kind / "README.md").read_text()
    path = tmp_path / "silo.yaml"
    path.write_text(page.split("```yaml\n")[1].split("```")[0])
    config = SiloConfig.read(path)
    assert config.app == "client:app"
    assert {"data-path", "classes", "centre", "scale"} <= set(config.node_config())
