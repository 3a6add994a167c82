"""A Flower mod that keeps the heads of the server's ledger, for a ClientApp that runs without `fedlaw silo`."""

from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable, Mod

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.ledger.heads import HEAD_ALONE
from fedlaw_flwr.ledger.kept import keep_head, not_of_the_key
from fedlaw_flwr.ledger.keys import is_fingerprint


def head_mod(folder: str | Path, server_key: str = "") -> Mod:
    """A mod for `ClientApp(mods=[...])` that keeps each head in a folder and answers the message of the last one.

    The last head comes in a query. Flower gives it to the mod only if the app has a function for queries
    (`@app.query()`), which the mod then does not call. An app without one answers it with an error, which the server
    expects; it keeps the heads of all rounds but the last.

    Args:
        folder: Where the heads go, a file for each run; it is made if it is not there.
        server_key: The fingerprint of the server's key. A message to train or to evaluate that does not bring a head
            signed with it is answered with an error. Default: "", and any server's messages are answered.

    Raises:
        InputError: If `server_key` is no fingerprint.
    """
    if server_key and not is_fingerprint(server_key):
        raise InputError(f"server_key={server_key!r}: a key's fingerprint is expected, SHA256: and 43 characters")

    def keep(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        configs = list(message.content.config_records.values())
        keep_head(Path(folder), configs, f"node {context.node_id}")
        if server_key and (wrong := not_of_the_key(configs, server_key, message.metadata.message_type)):
            raise InputError(wrong)
        if message.metadata.message_type == "query" and any(one.get("reply") == HEAD_ALONE for one in configs):
            return Message(RecordDict(), reply_to=message)
        return call_next(message, context)

    return keep
