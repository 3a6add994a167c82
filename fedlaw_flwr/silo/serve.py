"""The institution's own process: it alone holds the data, and answers the shipped ClientApp over a Unix socket."""

import json
import logging
import math
import os
import secrets
import select
import signal
import socket
import time
import traceback
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, recorddict_from_proto, recorddict_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage  # pylint: disable=no-name-in-module
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict  # pylint: disable=no-name-in-module
from flwr.supercore.task_identity import TaskIdentity

from fedlaw_flwr.apps.shipped.client import TooLarge, packed, receive, send
from fedlaw_flwr.core.errors import InputError, from_their_code
from fedlaw_flwr.ledger.heads import HEAD_ALONE
from fedlaw_flwr.ledger.kept import HEADS, keep_head, not_of_the_key
from fedlaw_flwr.protocol.gate import REVIEW
from fedlaw_flwr.silo.budget import Budget
from fedlaw_flwr.silo.config import SiloConfig, check_socket
from fedlaw_flwr.silo.policy import Policy, Refused, without_review
from fedlaw_flwr.silo.privacy import in_words, reseed, with_noise, with_noisy_review

_log = logging.getLogger("fedlaw.silo")
_POLL, _GRACE = 0.02, 2.0


class SiloProcess:
    """Serves one silo until it is told to end (SIGTERM): the client loaded once, each message in a fork of its own.

    Flower starts its ClientApp anew for every message; loading torch and the data there would cost more than a small
    model's training. Here both are loaded before the first message. A fork gives each message what a fresh process
    would: no state of another message, a crash that ends nobody else, an end at seconds-per-exchange. What a client
    keeps in context.state lies in a file of this process's own, out of reach of what Flower ships.

    The head of the server's ledger that a message brings is kept in the folder `heads` of the state, before anything
    else is done with the message and whatever the policy says: a file for each run. Where silo.yaml names the server's
    key, a message to train or to evaluate is refused unless it brings a head that this key signed.

    policy.yaml is read once, here. What it does not allow is refused before anything is trained or before anything is
    sent.

    Args:
        config: The silo's settings, from silo.yaml.

    Raises:
        DocumentError: For a policy.yaml that is missing or wrong.
        InputError: For a socket whose path is too long, or at which another process listens.
    """

    def __init__(self, config: SiloConfig) -> None:
        check_socket(config.socket)  # before the data are loaded, which may take long
        if _is_listened_at(config.socket):
            raise InputError(f"a process listens at {config.socket} already: end it, or name another --socket")
        self._config = config
        self._node_config = config.node_config()
        self._state = Path(config.state)
        self._policy = Policy.read(Path(config.policy)) if config.policy else Policy()
        self._budget = Budget(self._state / "budget.json", config.seconds_per_exchange)
        self._client = load_client(config.app)
        self._child = 0

    def run(self) -> None:
        """Prepares the client, listens, and answers one message after another."""
        prepare = getattr(import_module(self._config.app.partition(":")[0]), "prepare", None)
        if prepare is not None:
            with from_their_code():
                prepare(self._node_config)
        self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._budget.end(time.time())  # of one that the machine's own end cut off
        self._say_what_is_allowed()
        signal.signal(signal.SIGTERM, self._end)
        path = Path(self._config.socket)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            # Whoever may connect may ask for training; the group is the container of the shipped ClientApp.
            path.chmod(0o660)
            listener.listen(16)
            _log.info("%s answers at %s by %s", self._config.name, path, self._config.app)
            while True:
                connection, _ = listener.accept()
                with connection:
                    self._in_a_fork(connection, listener)

    def _in_a_fork(self, connection: socket.socket, listener: socket.socket) -> None:
        """Answers this connection in a child and waits for it; the child goes when the other end has hung up."""
        self._child = os.fork()
        if self._child == 0:
            code = 1
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                listener.close()
                signal.alarm(self._config.seconds_per_exchange)
                reseed()
                self._answer(connection)
                code = 0
            except OSError as error:
                _log.warning("%s: the reply could not be handed over: %s", self._config.name, error)
            finally:
                logging.shutdown()
                os._exit(code)  # nothing of the parent's is cleaned up twice
        status = self._wait(connection)
        self._child = 0
        self._budget.end(time.time())  # where the client raised or was killed, nobody else does
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            limit = f"seconds-per-exchange={self._config.seconds_per_exchange} is over"
            if self._policy.seconds_per_day is not None:
                limit += f", or what was left of seconds-per-day={self._policy.seconds_per_day:g}"
            reason = limit if number == signal.SIGALRM else f"killed by {signal.Signals(number).name}"
            _log.error("%s: a message was not answered: %s", self._config.name, reason)

    def _wait(self, connection: socket.socket) -> int:
        """The child's status when it has ended, killed if nobody waits for its answer any more."""
        hung_up: float | None = None
        while True:
            pid, status = os.waitpid(self._child, os.WNOHANG)
            if pid:
                return status
            readable, _, _ = select.select([connection], [], [], _POLL)
            if not readable:
                continue
            # The child has read the request, or is reading it: only an end of file is news.
            try:
                gone = connection.recv(1, socket.MSG_PEEK) == b""
            except ConnectionError:
                gone = True
            if gone and hung_up is None:  # or it has its answer, and the child is about to end
                hung_up = time.monotonic()
            if hung_up is not None and time.monotonic() - hung_up > _GRACE:
                os.kill(self._child, signal.SIGKILL)
                _log.warning("%s: the ClientApp hung up; its message is dropped", self._config.name)
                return os.waitpid(self._child, 0)[1]
            time.sleep(_POLL)

    def _answer(self, connection: socket.socket) -> None:
        if connection.recv(1, socket.MSG_PEEK) == b"":
            return  # somebody who looked whether this process listens
        try:
            header, body = receive(connection)
        except ConnectionError as error:
            _log.warning("%s: a message could not be taken: %s", self._config.name, error)
            return
        started = time.monotonic()
        try:
            reply = self._reply(json.loads(header), message_from_proto(ProtoMessage.FromString(body)))
            content = packed(reply, "the silo's answer")
        except (Refused, TooLarge) as refused:
            failure = str(refused)
            if isinstance(refused, Refused):
                failure = f"refused by {self._config.name}'s policy: {refused}"
            _log.warning("%s", failure)
            send(connection, json.dumps({"error": failure}).encode(), b"")
            return
        except Exception as error:
            number = secrets.token_hex(4)
            _log.error("%s: failure %s\n%s", self._config.name, number, traceback.format_exc())
            # The exception's text may quote data: only its type leaves the building.
            failure = f"{type(error).__name__} in the silo's client; its own log has the rest under {number}"
            send(connection, json.dumps({"error": failure}).encode(), b"")
            return
        _log.info("%s: answered in %.2f s, %d bytes", self._config.name, time.monotonic() - started, len(content))
        send(connection, b"{}", content)

    def _reply(self, header: dict[str, Any], message: Message) -> Message:
        configs = list(message.content.config_records.values())
        keep_head(self._state / HEADS, configs, self._config.name)
        pinned = self._config.server_key
        if pinned and (wrong := not_of_the_key(configs, pinned, message.metadata.message_type)):
            raise Refused(f"{wrong} (server-key in silo.yaml)")
        if message.metadata.message_type == "query" and any(one.get("reply") == HEAD_ALONE for one in configs):
            return Message(RecordDict(), reply_to=message)  # it asks for nothing: no client is called, nothing counted
        run, now = int(header["run-id"]), time.time()
        used = self._budget.used(now)
        self._policy.check_message(message, run, header["run-config"], used)
        self._budget.begin(now)
        signal.alarm(math.ceil(min(self._config.seconds_per_exchange, self._policy.seconds_left(used))))
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, run, int(header["node-id"])
        kept = self._state / f"run-{run}.state"
        state = recorddict_from_proto(ProtoRecordDict.FromString(kept.read_bytes())) if kept.exists() else RecordDict()
        context = Context(run, int(header["node-id"]), self._node_config, state, header["run-config"])
        unreviewed = self._policy.refuses_review(message)
        if unreviewed:
            self._say_no_reviews(message)
        reply = self._client(message, context)
        self._budget.end(time.time())
        if len(context.state):
            unfinished = kept.with_suffix(".unfinished")
            unfinished.write_bytes(recorddict_to_proto(context.state).SerializeToString())
            unfinished.replace(kept)
        if reply.has_error():
            raise RuntimeError(reply.error.reason)
        if unreviewed:
            reply = without_review(reply, message)
        if self._policy.privacy:
            reply = with_noise(message, reply, context, self._policy.privacy)
        if self._policy.review_privacy:
            reply = with_noisy_review(message, reply, context, self._policy.review_privacy)
        self._policy.check_reply(message, reply)
        return reply

    def _say_no_reviews(self, message: Message) -> None:
        """Asks the client for its update alone, and says so in the silo's own log."""
        for record in message.content.config_records.values():
            if record.get("reply") == REVIEW:
                record["reply"] = "update"
        _log.warning(
            "%s: the server asks for reviews (peer review) and the policy does not allow them: the update is sent "
            "without one, and this silo has no voice; `reviews: true` in policy.yaml allows them",
            self._config.name,
        )

    def _say_what_is_allowed(self) -> None:
        """In the silo's own log: the policy's file, what is used of it, and what its privacy comes to."""
        name, policy, used = self._config.name, self._policy, self._budget.used(time.time())
        _log.info("%s: %s", name, f"policy {self._config.policy}" if self._config.policy else "no policy: no limits")
        _log.info("%s: %d exchanges, %.0f s of training in the last 24 h", name, used.exchanges, used.seconds)
        if policy.privacy:
            _log.info("%s: %s", name, in_words(policy.privacy, policy.exchanges_per_day, policy.review_privacy))

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            self._budget.end(time.time())
        raise SystemExit(0)


def _is_listened_at(path: str) -> bool:
    """Whether a process listens at this socket; one that has ended may have left the file."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def load_client(reference: str) -> ClientApp:
    """The ClientApp at `module:name`.

    Raises:
        ValueError: One sentence, where there is none.
    """
    module, _, name = reference.partition(":")
    if not module or not name:
        raise InputError(
            f"client={reference!r}: module:name of a Flower ClientApp is expected, as my_hospital.client:app"
        )
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as error:
        raise InputError(f"client={reference!r}: {module} cannot be imported here: {error}") from error
    if not isinstance(found, ClientApp):
        raise InputError(f"client={reference!r}: {name} in {module} is {type(found).__name__}, not a Flower ClientApp")
    return found
