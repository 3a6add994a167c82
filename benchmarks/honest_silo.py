"""The ClientApp of `benchmarks.whole_rounds`: the honest silo, in a module that Ray can import."""

from functools import lru_cache
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedlaw_flwr.apps.honest import respond
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.protocol.gate import REVIEW
from fedlaw_flwr.tasks.base import Task

UNSENT = "take-review"
"""In a message's config: take a review and do not send it, for strategies that would not know what it is."""


@lru_cache(maxsize=1)
def task_of(items: tuple[tuple[str, Any], ...]) -> tuple[Settings, Task]:
    """The settings and their task, made once in a process."""
    settings = Settings.read(dict(items))
    return settings, settings.load_task()


def client_app(values: dict[str, Any]) -> ClientApp:
    """The honest silo with these settings."""
    app = ClientApp()
    items = tuple(sorted(values.items()))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        settings, task = task_of(items)
        silo = int(context.node_config["partition-id"])
        config = next(iter(message.content.config_records.values()))
        unsent = bool(config.get(UNSENT))
        if unsent:
            config["reply"] = REVIEW
        reply = respond(message, settings, silo, task, task.load_train(silo))
        if unsent:
            del reply.content[REVIEW]
        return reply

    return app
