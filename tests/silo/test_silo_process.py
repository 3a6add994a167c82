"""The institution's own process: a fork for each message, and of an error nothing but its type leaves."""

import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import silo_client
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedlaw_flwr.apps.shipped import client as shipped_client
from fedlaw_flwr.apps.shipped.client import SiloFailed, hand_over
from fedlaw_flwr.config.document import DocumentError
from fedlaw_flwr.silo.config import SiloConfig
from fedlaw_flwr.silo.serve import load_client


@pytest.fixture(scope="module")
def silo():
    """A `fedlaw silo` with the client of tests/silo_client.py: its socket, its log and its process."""
    with tempfile.TemporaryDirectory(prefix="fedlaw-") as name:
        folder = Path(name)
        (folder / "silo.yaml").write_text(
            "name: bonn\nclient: silo_client:app\ndata-path: /srv/private\nseconds-per-exchange: 2\n"
            f"socket: {folder}/silo.sock\nstate: {folder}/state\noptions:\n  query: select secret\n"
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [Path(sys.executable).parent / "fedlaw", "silo", folder / "silo.yaml"],
                env={**os.environ, "PYTHONPATH": str(Path(silo_client.__file__).parent)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 60
        # The socket is there a moment before it is listened at.
        while (
            "answers at" not in (folder / "log").read_text() and time.monotonic() < deadline and process.poll() is None
        ):
            time.sleep(0.1)
        assert process.poll() is None, (folder / "log").read_text()
        yield folder
        process.terminate()
        assert process.wait(10) == 0


def ask(folder: Path, do: str, run: int = 1, **run_config) -> Message:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, run, 7
    content = RecordDict({"config": ConfigRecord({"do": do}), "arrays": ArrayRecord()})
    message = Message(content, dst_node_id=7, message_type="train")
    message.metadata.__dict__["_message_id"] = "the-message"
    context = Context(run, 7, {"socket": str(folder / "silo.sock")}, RecordDict(), run_config)
    return hand_over(message, context)


def told(reply: Message) -> ConfigRecord:
    return reply.content["told"]


def test_a_message_reaches_the_client_with_the_runs_and_the_silos_own_configuration(silo):
    reply = ask(silo, "echo", run=11, lr=0.5)
    assert reply.metadata.reply_to_message_id == "the-message"
    assert told(reply)["run-config"] == "[('lr', 0.5)]"
    assert "('data-path', '/srv/private')" in told(reply)["node-config"]
    assert "('query', 'select secret')" in told(reply)["node-config"]
    assert "socket" not in told(reply)["node-config"]


def test_the_client_is_prepared_once_and_every_message_has_a_process_of_its_own(silo):
    first, second = told(ask(silo, "echo", run=12)), told(ask(silo, "echo", run=12))
    assert first["prepared"] == second["prepared"] == 1
    assert first["pid"] != second["pid"]


def test_state_is_kept_between_messages_of_a_run_and_apart_between_runs(silo):
    assert [told(ask(silo, "echo", run=13))["count"] for _ in range(3)] == [1, 2, 3]
    assert told(ask(silo, "echo", run=14))["count"] == 1


def test_what_fails_tells_its_type_and_keeps_its_text(silo):
    with pytest.raises(SiloFailed) as caught:
        ask(silo, "raise", run=15)
    sentence = str(caught.value)
    assert sentence.startswith("ValueError in the silo's client; its own log has the rest under ")
    assert "patient" not in sentence and "4711" not in sentence
    log = (silo / "log").read_text()
    assert "patient 4711 has a fever" in log and sentence.rsplit(" ", 1)[1] in log


def test_a_client_that_dies_costs_its_message_and_nothing_else(silo):
    with pytest.raises(SiloFailed, match="did not answer"):
        ask(silo, "die", run=16)
    assert told(ask(silo, "echo", run=16))["count"] == 1
    assert "killed by SIGKILL" in (silo / "log").read_text()


def test_a_client_that_takes_too_long_is_ended(silo):
    with pytest.raises(SiloFailed, match="did not answer"):
        ask(silo, "sleep", run=17)
    assert told(ask(silo, "echo", run=17))["count"] == 1
    assert "seconds-per-exchange=2 is over" in (silo / "log").read_text()


def test_junk_and_a_caller_that_hangs_up_cost_nobody_else(silo):
    for junk in (b"", b"\xff" * 7, b"\xff" * 4096, b"\0" * 16, b"\0" * 7 + b"\x02{}" + b"\0" * 7 + b"\x01x"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(silo / "silo.sock"))
            connection.sendall(junk)
    assert told(ask(silo, "echo", run=18))["count"] == 1


def test_the_socket_is_closed_to_others(silo):
    assert stat.S_IMODE((silo / "silo.sock").stat().st_mode) == 0o660


def test_without_the_silos_process_the_reply_is_one_sentence(tmp_path):
    with pytest.raises(
        SiloFailed, match=r"the silo's own process did not answer \(FileNotFoundError\); is it running\?"
    ):
        ask(tmp_path, "echo")


def test_a_part_longer_than_allowed_is_refused_before_it_is_read():
    one, other = socket.socketpair()
    with one, other:
        one.sendall((2**40).to_bytes(8, "big"))
        with pytest.raises(ConnectionError, match="1099511627776 bytes"):
            shipped_client.receive(other)


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("no_such_module:app", "no_such_module cannot be imported here"),
        ("silo_client:not_an_app", "not_an_app in silo_client is str, not a Flower ClientApp"),
        ("silo_client:missing", "missing in silo_client is NoneType"),
    ],
)
def test_a_client_that_is_none_is_told(reference, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_client(reference)


def test_a_silo_with_another_release_of_flower_than_the_servers_does_not_start(tmp_path):
    from typer.testing import CliRunner

    from fedlaw_flwr.cli.main import app

    (tmp_path / "silo.yaml").write_text("name: bonn\nflwr: '1.7'\n")
    result = CliRunner().invoke(app, ["silo", str(tmp_path / "silo.yaml")])
    assert result.exit_code == 1 and "the server runs 1.7: install flwr 1.7.*" in str(result.exception)


def test_a_wrong_silo_file_is_told_with_its_line(tmp_path):
    (tmp_path / "silo.yaml").write_text("name: bonn\ntsk: digits\nnum-partitions: 1\n")
    with pytest.raises(DocumentError) as caught:
        SiloConfig.read(tmp_path / "silo.yaml")
    assert "silo.yaml:2: tsk: there is no such key; did you mean 'task'?" in str(caught.value)
    assert "silo.yaml:3: num-partitions=1: input should be greater than or equal to 2" in str(caught.value)
