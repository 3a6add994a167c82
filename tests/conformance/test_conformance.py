"""The conformance kit: it finds every fault by the check meant for it, and finds none where there is none."""

import ast
import inspect
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import quickstart_client
import torch
import typer
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from safetensors.numpy import save_file
from typer.testing import CliRunner
from wrong_clients import (
    FAULTS,
    GOOD,
    INPUTS,
    LABELS,
    SHAPES,
    app_of,
    content_of,
    honest,
    initial,
    loss_and_gradient,
    personal,
    received,
    reviewing,
    trained,
    unseeded,
    with_momentum,
)

from fedlaw_flwr.apps import deployed
from fedlaw_flwr.cli.conformance import conformance
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.conformance import CHECKS, Probe, Terms, examine
from fedlaw_flwr.protocol import gate
from fedlaw_flwr.silo.config import SiloConfig
from fedlaw_flwr.tasks.initial import load_initial

PROTOCOL = Path(__file__).parents[2] / "docs" / "reference" / "protocol.md"


def findings_of(app, arrays=None, terms=None, node_config=None, run_config=None):
    """Every finding, by check."""
    probe = Probe(app, arrays or initial(), terms or Terms(seconds=1.0, local_epochs=2), node_config, run_config)
    return {found.check: found for found in examine(probe)}


def wrong_of(findings):
    return {name: found.what for name, found in findings.items() if found.kind == "wrong"}


# -- what it finds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named_by_the_check_meant_for_it_and_by_no_other(name):
    fault = FAULTS[name]
    wrong = wrong_of(findings_of(fault.app()))
    assert set(wrong) == {fault.check}, wrong
    assert fault.words in wrong[fault.check]


def test_a_good_client_gets_every_check_and_no_wrong():
    findings = findings_of(GOOD)
    assert wrong_of(findings) == {}
    assert list(findings) == [check.name for check in CHECKS]


def test_a_client_without_reviews_is_told_that_it_has_no_voice_and_one_with_them_is_right():
    assert findings_of(GOOD)["review"].kind == "note" and "no voice" in findings_of(GOOD)["review"].what
    findings = findings_of(app_of(reviewing))
    assert wrong_of(findings) == {} and findings["review"].kind == "ok"


def test_every_check_finds_some_fault_except_for_those_that_only_tell():
    covered = {fault.check for fault in FAULTS.values()}
    assert {check.name for check in CHECKS} - covered == {"exchange_3", "no_lr", "leaves", "cost"}


@pytest.mark.parametrize("seed", range(5))
def test_batches_in_a_random_order_are_a_note_and_taken_neither_for_momentum_nor_for_memory(seed):
    findings = findings_of(unseeded(seed))
    assert wrong_of(findings) == {}
    assert findings["repeats"].kind == "note"


def test_what_is_kept_in_context_state_and_changes_a_reply_is_a_note_that_names_it():
    memory = findings_of(personal())["memory"]
    assert memory.kind == "note"
    assert "context.state (own)" in memory.what


@pytest.mark.parametrize("lr", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_a_good_client_is_right_at_any_step_and_from_any_model_zero_too(lr, scale):
    arrays = ArrayRecord({key: Array((scale * array.numpy()).astype(np.float32)) for key, array in initial().items()})
    assert wrong_of(findings_of(GOOD, arrays, Terms(lr=lr, batch_size=4))) == {}


def test_a_good_client_of_float16_arrays_is_right_and_what_rounding_hides_is_said():
    def train(message, context):
        wide = {key: Array(array.numpy().astype(np.float32)) for key, array in message.content["arrays"].items()}
        message.content["arrays"], narrow = ArrayRecord(wide), message.content["arrays"]
        reply = honest(message)
        message.content["arrays"] = narrow
        if "arrays" in reply.content:
            trained = {key: Array(array.numpy().astype(np.float16)) for key, array in reply.content["arrays"].items()}
            reply.content["arrays"] = ArrayRecord(trained)
        return reply

    arrays = ArrayRecord({key: Array(array.numpy().astype(np.float16)) for key, array in initial().items()})
    findings = findings_of(app_of(train), arrays, Terms(lr=1e-3))
    assert wrong_of(findings) == {}
    assert "lost in the rounding" in findings["step"].what


def torch_client(optimiser, *, batch=16, dropout=0.0, seeded=False, epochs="run"):
    """A client as people write them: its loss is the mean of what it sees while it trains, with dropout if so asked."""
    inputs, labels = torch.tensor(INPUTS, dtype=torch.float32), torch.tensor(LABELS)

    def train(message, context):
        if seeded:
            torch.manual_seed(0)
        config = message.content["config"]
        net = torch.nn.Linear(4, 3)
        net.load_state_dict(message.content["arrays"].to_torch_state_dict())
        steps, total, seen = optimiser(net.parameters(), lr=config["lr"]), 0.0, 0
        for _ in range(config["local-epochs"] if epochs == "message" else context.run_config["local-epochs"]):
            for rows in torch.randperm(len(inputs)).split(batch):
                steps.zero_grad()
                outputs = net(torch.nn.functional.dropout(inputs[rows], dropout))
                loss = torch.nn.functional.cross_entropy(outputs, labels[rows])
                loss.backward()
                steps.step()
                total, seen = total + float(loss) * len(rows), seen + len(rows)
        metrics = MetricRecord({"loss": total / seen, "num-examples": len(labels)})
        content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics})
        return Message(content, reply_to=message)

    return app_of(train)


def looked_at(app, epochs=1):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        # The first optimiser of a process imports for seconds.
        return findings_of(app, terms=Terms(local_epochs=2), run_config={"local-epochs": epochs})


@pytest.mark.parametrize("options", [{}, {"batch": 2}, {"dropout": 0.5}, {"dropout": 0.5, "batch": 30}], ids=str)
def test_an_unseeded_client_that_is_otherwise_right_gets_no_wrong(options):
    findings = looked_at(torch_client(torch.optim.SGD, **options))
    assert wrong_of(findings) == {}
    assert findings["repeats"].kind == "note"
    assert "drawn by chance" in findings["loss_only"].what


@pytest.mark.parametrize("momentum", [0.9, 0.5])
@pytest.mark.parametrize("seeded", [True, False])
@pytest.mark.parametrize("epochs", ["run", "message"])
def test_momentum_is_found_whoever_says_how_many_epochs_and_whatever_the_batches(momentum, seeded, epochs):
    sgd = partial(torch.optim.SGD, momentum=momentum)
    findings = looked_at(torch_client(sgd, seeded=seeded, epochs=epochs, batch=20))
    assert set(wrong_of(findings)) == {"momentum"}
    assert "times as far as one" in findings["momentum"].what


def test_momentum_is_found_by_the_size_of_batches_where_epochs_are_fixed():
    def train(message, context):
        config = dict(message.content["config"]) | {"local-epochs": 1}
        fixed = type("Fixed", (), {"content": {**message.content, "config": config}})
        model = received(message)
        after = trained(fixed, model, with_momentum)
        return Message(content_of(message, after, loss_and_gradient(model)[0]), reply_to=message)

    assert set(wrong_of(findings_of(app_of(train)))) == {"momentum"}


def test_where_momentum_cannot_be_told_the_finding_says_what_to_look_at():
    def train(message, context):
        fixed = dict(message.content["config"]) | {"local-epochs": 1, "batch-size": 20}
        after = trained(type("Fixed", (), {"content": {**message.content, "config": fixed}}), received(message))
        return Message(content_of(message, after, loss_and_gradient(received(message))[0]), reply_to=message)

    finding = findings_of(app_of(train))["momentum"]
    assert finding.kind == "note" and "see that the optimiser is plain SGD" in finding.what


def test_a_client_of_the_current_folder_is_found_as_flwr_run_finds_it(tmp_path):
    source = Path(quickstart_client.__file__).read_text()
    (tmp_path / "here_alone.py").write_text(source + "\n\ndef initial_model(node_config):\n    return {}\n")
    command = [Path(sys.executable).parent / "fedlaw", "conformance", "here_alone:app"]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "cannot be imported" not in done.stderr and "nothing to learn" in done.stderr
    assert done.returncode == 2


def test_a_check_that_would_repeat_a_fault_is_not_made_and_named_at_the_end():
    last = list(examine(Probe(FAULTS["gradients"].app(), initial())))[-1]
    assert last.kind == "note"
    assert last.what == "not looked at until that is mended: step, momentum, adaptive, descends, rounds"


# -- clients that know nothing of it --------------------------------------------------------------------------------


def test_an_unchanged_quickstart_client_app_keeps_the_protocol_under_its_own_loss_key():
    torch.manual_seed(0)
    arrays = ArrayRecord(quickstart_client.Net().state_dict())
    where = {"partition-id": 0, "num-partitions": 10}
    findings = findings_of(
        quickstart_client.app, arrays, Terms(loss_key="train_loss"), where, run_config={"local-epochs": 1}
    )
    assert wrong_of(findings) == {}
    assert "local-epochs is not obeyed" in findings["momentum"].what
    assert "admitted without comparing" in findings["query"].what


def test_the_client_that_we_ship_to_silos_keeps_it():
    settings = Settings(task="breast_cancer", num_silos=5, seed=3, max_byzantine=1)
    own = SiloConfig(name="bonn", task="breast_cancer", partition_id=1, num_partitions=5, seed=3).node_config()
    arrays = ArrayRecord(settings.load_task().build_model(3).state_dict())
    findings = findings_of(deployed.app, arrays, None, own, settings.as_config())
    assert wrong_of(findings) == {}
    assert findings["momentum"].kind == findings["step"].kind == findings["evaluate"].kind == "ok"


# -- the kit against something else -----------------------------------------------------------------------------


def test_the_good_clients_gradient_is_autograds():
    model = {key: array.numpy().astype(np.float64) for key, array in initial().items()}
    weight, bias = (torch.tensor(model[key], requires_grad=True) for key in ("weight", "bias"))
    loss = torch.nn.functional.cross_entropy(torch.tensor(INPUTS) @ weight.T + bias, torch.tensor(LABELS))
    loss.backward()
    found, gradient = loss_and_gradient(model)
    assert found == pytest.approx(float(loss))
    np.testing.assert_allclose(gradient["weight"], weight.grad.numpy(), atol=1e-12)
    np.testing.assert_allclose(gradient["bias"], bias.grad.numpy(), atol=1e-12)


def test_with_one_batch_of_everything_the_kit_measures_lr_times_the_gradient():
    model = {key: array.numpy().astype(np.float64) for key, array in initial().items()}
    _, gradient = loss_and_gradient(model)
    probe = Probe(GOOD, initial(), Terms(lr=0.1))
    delta = probe.reply(probe.model, {"batch-size": 60}).delta
    expected = 0.1 * np.concatenate([gradient[key].ravel() for key in SHAPES])
    np.testing.assert_allclose(delta, expected, atol=1e-7)


# -- the command ----------------------------------------------------------------------------------------------------


def run(*arguments):
    app = typer.Typer()
    app.command()(conformance)
    return CliRunner().invoke(app, list(arguments), env={**os.environ, "COLUMNS": "400"})


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "initial.safetensors"
    save_file({key: array.numpy() for key, array in initial().items()}, path)
    return str(path)


def test_the_command_ends_with_0_for_a_client_that_keeps_the_protocol_and_a_line_for_each_check(model):
    result = run("wrong_clients:GOOD", "--model", model)
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert len(lines) == len(CHECKS) + 1
    assert lines[0].startswith("ok    answers: exchange 1 is answered, in")
    assert lines[-1] == "wrong_clients:GOOD keeps the protocol"


def test_the_command_ends_with_1_for_one_that_does_not_and_says_what_to_do(model):
    result = run("wrong_clients:GRADIENTS", "--model", model)
    assert result.exit_code == 1
    assert "WRONG weights: the reply does not follow the model" in result.output
    assert "reply the trained weights themselves" in result.output
    assert result.output.splitlines()[-1] == "1 wrong: wrong_clients:GRADIENTS departs from the protocol"


def test_without_a_model_and_a_client_that_proposes_none_the_command_asks_for_it():
    error = run("wrong_clients:GOOD").exception
    assert isinstance(error, ValueError)
    assert str(error).startswith("which model? Name its safetensors file (--model)")


def test_without_a_client_the_command_asks_for_one():
    assert "which client?" in str(run().exception)


def test_a_silo_yaml_gives_client_and_node_config_and_the_model_is_saved_with_what_the_client_says(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "client", None)  # so that it is taken out again at the end
    del sys.modules["client"]
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "numpy_client"))
    rows = "\n".join(f"{i % 7},{i % 5},{int(i % 7 > 3)}" for i in range(40))
    (tmp_path / "records.csv").write_text(f"age,dose,ill\n{rows}\n")
    (tmp_path / "silo.yaml").write_text(
        f"name: bonn\nclient: client:app\ndata-path: {tmp_path}/records.csv\n"
        "options: {centre: '3,2', scale: '2,1.5'}\n"
    )
    saved = tmp_path / "initial.safetensors"
    result = run("--silo", str(tmp_path / "silo.yaml"), "--save-model", str(saved))
    assert result.exit_code == 0, result.output
    found = load_initial(saved)
    assert found.task == "logistic regression"
    assert found.description["column dose"] == "numeric, minus 2, over 1.5"
    assert {key: value.shape for key, value in found.arrays.items()} == {"weight": (1, 2), "bias": (1,)}


# -- the page -------------------------------------------------------------------------------------------------------


def test_the_page_has_a_row_for_every_reason_the_gate_gives():
    def longest(text):
        """The longest piece of an f-string that does not depend on the reply."""
        return max((str(part.value) for part in ast.walk(text) if isinstance(part, ast.Constant)), key=len, default="")

    tree = ast.parse(inspect.getsource(gate))
    given = [node.args[0] for node in ast.walk(tree) if getattr(getattr(node, "func", 0), "id", "") == "Rejected"]
    (worded,) = (node for node in ast.walk(tree) if getattr(node, "name", "") == "_why_no_norm")
    given += [node.value for node in ast.walk(worded) if isinstance(node, ast.Return)]
    reasons = {longest(text).strip() for text in given} - {""}
    page = " ".join(PROTOCOL.read_text().split())
    assert len(reasons) >= 18
    assert sorted(reason for reason in reasons if reason not in page) == []


def test_the_page_names_every_check_of_the_kit():
    page = PROTOCOL.read_text()
    assert [check.name for check in CHECKS if f"`{check.name}`" not in page] == []
