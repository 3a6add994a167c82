"""A ClientApp with the mod keeps the heads it is sent, and answers the message that brings the last one."""

import re

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from fedlaw_flwr.apps.head_mod import head_mod
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.ledger.heads import Head, read_heads
from fedlaw_flwr.ledger.keys import ServerKey, fingerprint


@pytest.mark.parametrize("has_query", [True, False])
def test_heads_are_kept_and_the_client_sees_every_message_but_the_last(tmp_path, has_query):
    app, seen = ClientApp(mods=[head_mod(tmp_path / "heads")]), []

    def answer(message, context):
        seen.append(message.metadata.message_type)
        return Message(RecordDict(), reply_to=message)

    app.train()(answer)
    if has_query:
        app.query()(answer)

    def bring(head, kind, **config):
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, 1, 7
        content = RecordDict({"config": ConfigRecord({"ledger-head": head.text(), **config}), "arrays": ArrayRecord()})
        message = Message(content, dst_node_id=7, message_type=kind)
        message.metadata.__dict__["_message_id"] = "the-message"
        return app(message, Context(1, 7, {}, RecordDict(), {}))

    key = ServerKey.fresh()
    heads = [Head.signed(key, "a" * 32, 1, number, number == 2, 10 * number + 1, "b" * 64) for number in range(3)]
    bring(heads[0], "train", reply="update")
    bring(heads[1], "train", reply="update")
    if has_query:
        assert len(bring(heads[2], "query", reply="head").content) == 0
    else:  # Flower gives no mod a message for which the app has no function
        with pytest.raises(ValueError, match="No query function"):
            bring(heads[2], "query", reply="head")
    assert seen == ["train", "train"] and read_heads(tmp_path / "heads") == heads[: 3 if has_query else 2]


def test_with_a_key_the_client_sees_no_message_of_another_server(tmp_path):
    key, other = ServerKey.fresh(), ServerKey.fresh()
    app, seen = ClientApp(mods=[head_mod(tmp_path / "heads", fingerprint(key.public))]), []

    @app.train()
    def answer(message, context):
        seen.append(message.metadata.message_type)
        return Message(RecordDict(), reply_to=message)

    def bring(**config):
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, 1, 7
        message = Message(RecordDict({"config": ConfigRecord(config)}), dst_node_id=7, message_type="train")
        message.metadata.__dict__["_message_id"] = "the-message"
        return app(message, Context(1, 7, {}, RecordDict(), {}))

    bring(**{"ledger-head": Head.signed(key, "a" * 32, 1, 0, False, 1, "b" * 64).text()})
    with pytest.raises(InputError, match=f"signed with {re.escape(fingerprint(other.public)[:23])}…, and SHA256:"):
        bring(**{"ledger-head": Head.signed(other, "c" * 32, 1, 0, False, 1, "b" * 64).text()})
    with pytest.raises(InputError, match="brings no head of a ledger"):
        bring(lr=0.1)
    assert seen == ["train"]
    with pytest.raises(InputError, match="server_key='abc': a key's fingerprint is expected"):
        head_mod(tmp_path / "heads", "abc")
