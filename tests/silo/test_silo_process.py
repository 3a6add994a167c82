"""The institution's own process: a fork for each message, and of an error nothing but its type leaves."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import silo_client
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.message import EncodeError
from typer.testing import CliRunner

from fedlaw_flwr.apps.shipped import client as shipped_client
from fedlaw_flwr.apps.shipped.client import SiloFailed, hand_over
from fedlaw_flwr.cli.main import app
from fedlaw_flwr.config.document import DocumentError
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.ledger.heads import read_heads
from fedlaw_flwr.ledger.keys import ServerKey
from fedlaw_flwr.ledger.writer import Ledger
from fedlaw_flwr.silo.config import SiloConfig, check_socket
from fedlaw_flwr.silo.serve import SiloProcess, load_client


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


def message_of(do: str, arrays: ArrayRecord, run: int = 1) -> Message:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, run, 7
    content = RecordDict({"config": ConfigRecord({"do": do}), "arrays": arrays})
    message = Message(content, dst_node_id=7, message_type="train")
    message.metadata.__dict__["_message_id"] = "the-message"
    return message


def ask(folder: Path, do: str, run: int = 1, arrays: ArrayRecord | None = None, **run_config) -> Message:
    message = message_of(do, arrays or ArrayRecord(), run)
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


def test_the_head_of_a_ledger_is_kept_whatever_becomes_of_its_message(silo, tmp_path):
    ledger = Ledger.create(tmp_path / "ledger.jsonl", ServerKey.fresh())
    heads = [ledger.head]
    for number in (1, 2):
        ledger.write("round", round=number)
        heads.append(ledger.seal(number))
    ledger.close()

    def bring(head, do, kind="train", **config):
        message = message_of(do, ArrayRecord(), 30)
        message.content["config"].update({"ledger-head": head.text(), **config})
        message.metadata.message_type = kind
        return hand_over(message, Context(30, 7, {"socket": str(silo / "silo.sock")}, RecordDict(), {}))

    assert told(bring(heads[0], "echo"))["count"] == 1
    with pytest.raises(SiloFailed):
        bring(heads[1], "raise")
    used = len(json.loads((silo / "state" / "budget.json").read_text()))
    assert len(bring(heads[2], "die", "query", reply="head").content) == 0  # no client is called
    assert len(json.loads((silo / "state" / "budget.json").read_text())) == used
    assert read_heads(silo / "state" / "heads") == heads


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


def test_who_only_looks_whether_it_listens_is_no_message_and_no_warning(silo):
    before = (silo / "log").read_text()
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(silo / "silo.sock"))
    assert told(ask(silo, "echo", run=19))["count"] == 1
    assert "WARNING" not in (silo / "log").read_text()[len(before) :]


def test_a_message_larger_than_the_socket_takes_is_told_with_its_size_and_the_limit_and_not_sent(silo, monkeypatch):
    monkeypatch.setattr(shipped_client, "MOST", 2000)
    big = ArrayRecord({"w": Array(np.zeros(500))})
    with pytest.raises(SiloFailed) as caught:
        ask(silo, "echo", arrays=big)
    found = re.fullmatch(
        r"the server's message has (\d+) bytes, and the socket of the silo's own process takes 2000 at most: "
        "the model is too large for it",
        str(caught.value),
    )
    assert int(found[1]) == len(big["w"].data) > 4000
    monkeypatch.setattr(shipped_client, "MOST", len(big["w"].data) + 10)  # the arrays alone would pass
    with pytest.raises(SiloFailed, match="the model is too large for it"):
        ask(silo, "echo", arrays=big)


def test_a_message_that_protocol_buffers_cannot_write_is_too_large(monkeypatch):
    def refuse(message):
        class Proto:
            def SerializeToString(self):
                raise EncodeError("Failed to serialize proto")

        return Proto()

    monkeypatch.setattr(shipped_client, "message_to_proto", refuse)
    with pytest.raises(shipped_client.TooLarge, match="the reply has more than 2147483647 bytes, and the socket"):
        shipped_client.packed(message_of("echo", ArrayRecord()), "the reply")


def test_an_answer_larger_than_the_socket_takes_is_told_by_the_silo_itself(tmp_path, monkeypatch):
    # In this process, so that the limit can be a small one; `serve` answers as each fork does.
    config = SiloConfig(
        name="bonn", client="silo_client:app", socket=str(tmp_path / "s"), state=str(tmp_path / "state")
    )
    serves = SiloProcess(config)
    monkeypatch.setattr(shipped_client, "MOST", 150)
    monkeypatch.setattr(signal, "alarm", lambda seconds: 0)
    here, there = socket.socketpair()
    with here, there:
        message = shipped_client.message_to_proto(message_of("echo", ArrayRecord())).SerializeToString()
        header = json.dumps({"run-id": 1, "node-id": 7, "run-config": {}}).encode()
        shipped_client.send(here, header, message)
        (tmp_path / "state").mkdir()
        serves._answer(there)
        answer, body = shipped_client.receive(here)
    failure = json.loads(answer)["error"]
    assert body == b"" and re.fullmatch(
        r"the silo's answer has \d+ bytes, and the socket .* takes 150 at most: .*", failure
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied"), "(PermissionError): this process may not use its socket"),
        (ConnectionRefusedError(111, "Connection refused"), "(ConnectionRefusedError); is it running?"),
    ],
)
def test_why_the_silos_process_is_not_reached_is_told_apart(tmp_path, monkeypatch, error, said):
    def connect(self, path):
        raise error

    monkeypatch.setattr(shipped_client.socket, "socket", type("Refusing", (socket.socket,), {"connect": connect}))
    with pytest.raises(SiloFailed, match=re.escape(f"the silo's own process did not answer {said}")):
        ask(tmp_path, "echo")


def test_a_socket_whose_path_is_too_long_is_told_at_both_ends_before_anything_is_loaded(tmp_path, monkeypatch):
    deep = tmp_path / ("ä" * 60)  # 120 bytes, two for each letter
    length = len(os.fsencode(deep / "silo.sock"))
    with pytest.raises(SiloFailed, match=f"its socket's path has {length} bytes, and a Unix socket's may have 107"):
        ask(deep, "echo")
    (tmp_path / "silo.yaml").write_text(f"name: bonn\nsocket: {deep}/silo.sock\n", encoding="utf-8")
    with pytest.raises(DocumentError, match=rf"silo\.yaml:2: socket=.*has {length} bytes, .*107.*name a shorter one"):
        SiloConfig.read(tmp_path / "silo.yaml")
    (tmp_path / "silo.yaml").write_text("name: bonn\nclient: silo_client:app\n")
    monkeypatch.setattr(silo_client, "prepare", lambda node_config: pytest.fail("the data were loaded first"))
    refused = CliRunner().invoke(app, ["silo", str(tmp_path / "silo.yaml"), "--socket", f"{deep}/silo.sock"])
    assert isinstance(refused.exception, InputError) and "--socket on the command line" in str(refused.exception)


def test_a_second_process_of_a_silo_does_not_take_the_first_one_s_place(silo):
    with pytest.raises(InputError, match=r"a process listens at .*silo\.sock already"):
        SiloProcess(SiloConfig.read(silo / "silo.yaml"))
    assert told(ask(silo, "echo", run=20))["count"] == 1


def test_a_silos_socket_takes_no_file_s_place(tmp_path):
    (tmp_path / "records.csv").write_text("age\n7\n")
    for path in (str(tmp_path), str(tmp_path / "records.csv"), f"{tmp_path}/new/", ""):
        with pytest.raises(InputError, match="is no place for the silo's socket"):
            check_socket(path)
    check_socket(str(tmp_path / "silo.sock"))


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
    (tmp_path / "silo.yaml").write_text("name: bonn\nflwr: '1.7'\n")
    result = CliRunner().invoke(app, ["silo", str(tmp_path / "silo.yaml")])
    assert result.exit_code == 1 and "the server runs 1.7: install flwr 1.7.*" in str(result.exception)


def test_a_wrong_silo_file_is_told_with_its_line(tmp_path):
    (tmp_path / "silo.yaml").write_text("name: bonn\ntsk: digits\nnum-partitions: 1\n")
    with pytest.raises(DocumentError) as caught:
        SiloConfig.read(tmp_path / "silo.yaml")
    assert "silo.yaml:2: tsk: there is no such key; did you mean 'task'?" in str(caught.value)
    assert "silo.yaml:3: num-partitions=1: input should be greater than or equal to 2" in str(caught.value)
