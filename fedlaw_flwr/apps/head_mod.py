"""A Flower mod that keeps the heads of the server's ledger, for a ClientApp that runs without `fedlaw silo`."""

from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable, Mod

from fedlaw_flwr.ledger.heads import HEAD_ALONE
from fedlaw_flwr.ledger.kept import keep_head


def head_mod(folder: str | Path) -> Mod:
    """A mod for `ClientApp(mods=[...])` that keeps each head in a folder and answers the message of the last one.

    The last head comes in a query. Flower gives it to the mod only if the app has a function for queries
    (`@app.query()`), which the mod then does not call. An app without one answers it with an error, which the server
    expects; it keeps the heads of all rounds but the last.

    Args:
        folder: Where the heads go, a file for each run; it is made if it is not there.
    """

    def keep(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        configs = list(message.content.config_records.values())
        keep_head(Path(folder), configs, f"node {context.node_id}")
        if message.metadata.message_type == "query" and any(one.get("reply") == HEAD_ALONE for one in configs):
            return Message(RecordDict(), reply_to=message)
        return call_next(message, context)

    return keep
