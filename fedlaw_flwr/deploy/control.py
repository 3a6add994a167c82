"""The operator's end of a SuperLink, by Flower's CLI: register and list silos, submit a run, ask how it stands."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedlaw_flwr.events.folder import RunFailed, inode_of, read_events
from fedlaw_flwr.events.types import Event, RunEnded
from fedlaw_flwr.protocol.text import last_sentence

_PATIENCE, _POLL = 300.0, 0.5
_SETTLE = 60.0
_PLAIN = " !#$%&()*+,-./:;<=>?@[]^_`{|}~"  # neither quotes nor a backslash
_ASK = 20.0  # a `flwr` command takes a second of a core, and the run folder tells of the end first


class ControlError(RuntimeError):
    """A `flwr` command failed; the text says which and what it answered."""


class Control:
    """`flwr` commands against one SuperLink.

    Args:
        command: How to run flwr there.
        register: The file that node ids are kept in.
    """

    def __init__(
        self, command: Sequence[str], connection: str, register: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command, self._connection, self._environment = list(command), connection, environment
        self._register = register

    def silos(self) -> dict[str, str]:
        """Each silo registered from here and how the SuperLink sees its node: registered, online or offline."""
        ids = self._ids()
        seen = {
            node["node-id"]: node["status"] for node in self._json(["supernode", "list", self._connection])["nodes"]
        }
        return {name: seen[node] for name, node in ids.items() if seen.get(node, "unregistered") != "unregistered"}

    def register(self, keys: Mapping[str, str]) -> None:
        """Registers the keys of these silos, but for silos that are registered already.

        Flower's list of nodes does not tell their names, so the node ids it gave are kept in the register file.

        Args:
            keys: The file of each silo's public key, for flwr, by the silo's name.
        """
        known = self.silos()
        for name, public_key in keys.items():
            if name not in known:
                answer = self._json(["supernode", "register", public_key, self._connection, "--name", name])
                self._note({**self._ids(), name: str(answer["node-id"])})

    def unregister(self, name: str) -> None:
        """Takes this silo's registration back: its node is refused from now on.

        Raises:
            ControlError: If the silo has no registration from here.
        """
        ids = self._ids()
        if name not in ids:
            raise ControlError(f"no node was registered from here as {name}")
        self._json(["supernode", "unregister", ids.pop(name), self._connection])
        self._note(ids)

    def wait_online(self, names: Sequence[str], timeout: float = _PATIENCE) -> None:
        """Returns when the nodes of all these silos are online.

        Args:
            names: The silos' names.
            timeout: Seconds to wait at most.

        Raises:
            TimeoutError: If some are not online by then; the text names them.
        """
        deadline = time.monotonic() + timeout
        while True:
            seen = self.silos()
            missing = [name for name in names if seen.get(name) != "online"]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"not online after {timeout:.0f} s: {', '.join(missing)}; see their logs")
            time.sleep(_POLL)

    def submit(self, package: str, changed: Mapping[str, Any] | None = None) -> str:
        """Starts a run of this app.

        Args:
            package: The app, as `flwr run` takes it.
            changed: Settings by name that differ from the package's.

        Returns:
            Flower's id of the run.
        """
        pairs = [f"{key}={as_toml(value)}" for key, value in (changed or {}).items()]
        overrides = ["--run-config", " ".join(pairs)] if pairs else []
        return str(self._json(["run", package, self._connection, *overrides])["run-id"])

    def status(self, run: str) -> str:
        """Flower's word for how a run stands, e.g. `finished:completed`."""
        return str(self._json(["list", self._connection, "--run-id", run])["runs"][0]["status"])

    def is_over(self, run: str) -> bool:
        """Whether a run has ended, however it did."""
        return self.status(run).startswith("finished")

    def settled(self, run: str) -> str:
        """Flower's last word on a run whose folder is complete: it comes a moment later."""
        deadline = time.monotonic() + _SETTLE
        while not (said := self.status(run)).startswith("finished") and time.monotonic() < deadline:
            time.sleep(_POLL)
        return said

    def stop(self, run: str) -> None:
        """Ends a run."""
        self._json(["stop", run, self._connection])

    def _ids(self) -> dict[str, str]:
        """Each silo registered from here and its node id."""
        return dict(json.loads(self._register.read_text())) if self._register.exists() else {}

    def _note(self, ids: Mapping[str, str]) -> None:
        self._register.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self._register.with_name(self._register.name + ".unfinished")
        unfinished.write_text(json.dumps(dict(ids), indent=2) + "\n")
        unfinished.replace(self._register)

    def _json(self, arguments: Sequence[str]) -> dict[str, Any]:
        what = f"flwr {' '.join(arguments[:2])}"
        try:
            done = subprocess.run(
                [*self._command, *arguments, "--format", "json"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_PATIENCE,
            )
        except subprocess.TimeoutExpired:
            raise ControlError(f"{what}: no answer within {_PATIENCE:.0f} s; does the SuperLink run?") from None
        begin = done.stdout.find("{")
        try:
            answer: dict[str, Any] = json.loads(done.stdout[begin:]) if begin >= 0 else {}
        except json.JSONDecodeError:
            answer = {}
        if done.returncode or not answer or answer.get("success") is False:
            said = answer.get("error-message") or last_sentence(done.stderr) or last_sentence(done.stdout) or "nothing"
            raise ControlError(f"{what}: {said}")
        return answer


def as_toml(value: str | int | float | bool) -> str:
    """A value for `flwr run --run-config`, as TOML.

    flwr splits its argument at spaces and quotes, not as TOML does: inside a text, whatever it could stumble over is
    written as the escape of its code point.
    """
    if not isinstance(value, str):
        return json.dumps(value)
    return '"' + "".join(c if c.isalnum() or c in _PLAIN else f"\\U{ord(c):08x}" for c in value) + '"'


def follow(
    folder: Path, is_over: Callable[[], bool], begin_within: float = _PATIENCE, before: int = 0
) -> Iterator[Event]:
    """The events of a run folder as they are written, until its end event or until the run is over without one.

    Args:
        folder: The run folder, which need not exist yet.
        is_over: Whether the SuperLink says that the run is over. It may raise ControlError while the SuperLink is away.
        begin_within: Seconds within which the folder must come into being.
        before: The file of its events before the run was resumed (`inode_of`), which is not read. Default: none.

    Raises:
        RunFailed: If the folder does not come into being.
        ControlError: If the SuperLink is away for five minutes.
    """
    seen, over = 0, False
    started = asked = answered = time.monotonic()
    while True:
        events = list(read_events(folder)) if inode_of(folder) not in (0, before) else []
        for event in events[seen:]:
            yield event
            if isinstance(event, RunEnded):
                return
        seen = len(events)
        if over:  # known before this reading: nothing was written after it
            return
        now = time.monotonic()
        if not events and now - started > begin_within:
            raise RunFailed(f"no run folder appeared at {folder} within {begin_within:.0f} s; see the server-app's log")
        if now - asked > _ASK:
            asked = now
            try:
                over, answered = is_over(), now
            except ControlError:  # a SuperLink that is started anew loses nothing; one that stays away does
                if now - answered > _PATIENCE:
                    raise
        else:
            time.sleep(_POLL)
