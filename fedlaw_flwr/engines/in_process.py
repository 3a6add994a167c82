"""A Grid that runs each silo's ClientApp in this process when its reply is pulled: exact, sequential, no Ray."""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo  # pylint: disable=no-name-in-module
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedlaw_flwr.core.errors import InputError

_SERVER = 1  # the node id under which Flower's SuperLink speaks
CLIENT_APP_EXCEPTION = 2
"""Flower's code of an error reply for a ClientApp that failed."""


class InProcessGrid(Grid):
    """num_silos silos, numbered as partitions, each with a Context of its own that lives as long as the grid.

    A reply is computed when it is pulled and handed over at once, so one exists at a time. What a ClientApp raises
    becomes Flower's error reply, code 2. Messages pass as Flower's records, arrays as bytes, so that nothing is shared
    by accident.

    Args:
        app: The ClientApp of every silo, or a function from partition to ClientApp.
        num_silos: How many silos there are.
        run_config: The run config in every silo's Context. Default: empty.
        node_configs: What each silo says of itself, in the order of the partitions, as its SuperNode's node config
            would. Default: nothing but partition-id, num-partitions and engine, which every silo has.

    Raises:
        ValueError: If there is not one of `node_configs` for each silo.
    """

    all_present = True  # its silos neither come nor go: nobody needs to wait until they have settled

    def __init__(
        self,
        app: ClientApp | Callable[[int], ClientApp],
        num_silos: int,
        run_config: Mapping[str, Any] | None = None,
        node_configs: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        if node_configs is not None and len(node_configs) != num_silos:
            raise InputError(f"{len(node_configs)} node_configs for num_silos={num_silos}: one for each is expected")
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, 1, _SERVER
        self._app_of = (lambda partition: app) if isinstance(app, ClientApp) else app
        self._run = Run.create_empty(1)
        self._waiting: dict[str, Message] = {}
        self._contexts = {
            partition + 2: Context(
                run_id=1,
                node_id=partition + 2,
                node_config={
                    "partition-id": partition,
                    "num-partitions": num_silos,
                    "engine": "in-process",
                    **(node_configs[partition] if node_configs else {}),
                },
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for partition in range(num_silos)
        }

    def set_run(self, run: Run) -> None:
        """Takes the run's details; nothing here depends on them."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's details."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to a node, as Flower's deprecated method of this name makes it."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The node ids of all silos."""
        return list(self._contexts)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """All silos; like Flower's simulation, without names."""
        return [NodeInfo(node_id=node_id) for node_id in self._contexts]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keeps the messages; returns the ids of those whose node exists."""
        sent = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid.uuid4())
            if message.metadata.dst_node_id in self._contexts:
                self._waiting[message.metadata.message_id] = message
                sent.append(message.metadata.message_id)
        return sent

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Runs the silos asked for and returns their replies."""
        return [self._answer(self._waiting.pop(key)) for key in message_ids if key in self._waiting]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push, then pull all: for Flower's own strategies."""
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message:
        partition = message.metadata.dst_node_id - 2
        context = self._contexts[message.metadata.dst_node_id]
        try:
            return self._app_of(partition)(message, context)
        except Exception as error:  # as Flower does: the silo failed, the run goes on
            reason = f"{type(error).__name__}: {error}"
            return Message(Error(CLIENT_APP_EXCEPTION, reason), reply_to=message)
