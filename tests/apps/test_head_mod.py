"""A ClientApp with the mod keeps the heads it is sent, and answers the message that brings the last one."""

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from fedlaw_flwr.apps.head_mod import head_mod
from fedlaw_flwr.ledger.heads import Head, read_heads
from fedlaw_flwr.ledger.keys import ServerKey


def test_heads_are_kept_and_the_client_sees_every_message_but_the_last(tmp_path):
    app, seen = ClientApp(mods=[head_mod(tmp_path / "heads")]), []

    @app.train()
    def train(message, context):
        seen.append(message.metadata.message_type)
        return Message(RecordDict(), reply_to=message)

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
    assert len(bring(heads[2], "query", reply="head").content) == 0  # this client has no answer to a query
    assert seen == ["train", "train"] and read_heads(tmp_path / "heads") == heads
