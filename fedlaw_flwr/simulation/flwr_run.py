"""A real `flwr run` in simulation, from start to verdict: its own SuperLink, followed live, every process ended."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import httpx

from fedlaw_flwr.apps.shipped.client import LONGEST_SOCKET
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.core.extras import what_to_install
from fedlaw_flwr.events.folder import EVENTS, RunFailed, inode_of, read_events
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import Event, OnEvent, RunEnded, Warned
from fedlaw_flwr.protocol.text import last_sentence
from fedlaw_flwr.simulation.flower_app import write_app
from fedlaw_flwr.simulation.processes import end_processes, folder_for_sockets, free_port, without_proxy

_START = 60.0
LOG = "flower.log"
"""What Flower's processes write, in the run folder."""
_POLL = 0.3
_ASK = 60.0
"""Seconds in which a `flwr` command answers."""
_SETTLE = 120.0
"""Seconds in which Flower ends a run whose folder is complete."""
_SLACK = 1800.0
"""Seconds that loading the data, or measuring one model, may take at most beside what the settings allow."""
_OTHER_CLUSTERS = (
    "RAY_NAMESPACE",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_RUNTIME_ENV_HOOK",
    "RAY_JOB_ID",
    "RAY_RAYLET_PID",
)
"""Variables that are about a Ray cluster which is not ours; RAY_ADDRESS is set to "local", which is a new one."""
_SESSION = len("/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.12")
"""The bytes of the longest socket's path that Ray makes in its temporary folder."""


def simulate(settings: Settings, folder: Path, on_event: OnEvent, cpus_per_silo: int = 1) -> None:
    """`flwr run` of the simulation's app with these settings, from start to verdict.

    The SuperLink is this run's own: own FLWR_HOME, own port, started in an empty directory so that it serves no other
    project's code, and ended with all it started. Flower's exit code is not believed: the run must be
    `finished:completed` and its folder must say so too. Ray is started on this machine, whatever cluster RAY_ADDRESS
    names.

    Args:
        settings: The run's.
        folder: The run folder.
        on_event: Is handed the run's events as they happen.
        cpus_per_silo: CPUs that Ray reserves for a silo while it trains. Default: 1.

    Raises:
        RunFailed: If the run did not complete, or if nothing has happened for longer than the settings allow.
    """
    folder = folder.resolve()
    if cluster := other_cluster(os.environ):
        on_event(Warned(reason=f"RAY_ADDRESS={cluster} is not used: this run starts a Ray of its own on this machine"))
    settings = replace(settings, run_dir=str(folder))
    before = inode_of(folder) if settings.resume else 0
    with superlink(folder) as flwr:
        app = write_app(flwr.home / "simulation-app", settings)  # a name with a hyphen, so that nothing imports it
        federation = f"num-supernodes={settings.num_silos} client-resources-num-cpus={cpus_per_silo}"
        process = flwr.start(["run", str(app), "local-fedlaw", "--stream", "--federation-config", federation])
        for event in _follow(folder, process, longest_silence(settings), before):
            on_event(event)
        flwr.judge(folder)


def other_cluster(environment: Mapping[str, str]) -> str:
    """The Ray cluster that this environment names, "" for none and for one that is to be started."""
    said = environment.get("RAY_ADDRESS", "")
    return "" if said == "local" else said


def longest_silence(settings: Settings) -> float:
    """Seconds after which a run that tells of no event is given up.

    A round's two exchanges and the silos' evaluation each end after `timeout`, and silos are waited for
    `startup-timeout` at most; loading the data and measuring the model come on top.
    """
    return settings.startup_timeout + 3 * settings.timeout + _SLACK


class Flower:
    """A SuperLink of our own and the `flwr` commands that talk to it.

    Args:
        home: The empty directory it works in, its FLWR_HOME.
        log: The file that its processes' output is appended to.
        port: The port of the SuperLink on 127.0.0.1.
    """

    def __init__(self, home: Path, log: Path, port: int) -> None:
        self.home, self.log, self.port = home, log, port
        self._before = log.stat().st_size if log.exists() else 0  # of the server before this one, if a run is resumed
        self._environment = {
            **without_proxy(os.environ),
            "FLWR_HOME": str(home),
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(port),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ADDRESS": "local",  # left out, Ray would still look for a cluster that `ray start` left a note of
            "PYTHONDONTWRITEBYTECODE": "1",
            # Flower starts its helpers by name: they must be those of this environment.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }
        for name in ("PYTHONPATH", *_OTHER_CLUSTERS):
            self._environment.pop(name, None)
        if not _has_room_for_ray():
            self._environment["RAY_TMPDIR"] = str(home)

    def start(self, command: list[str], program: str = "flwr") -> "subprocess.Popen[bytes]":
        """Starts a Flower command in the empty directory, its output appended to the run's log."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [str(Path(sys.executable).parent / program), *command],
                cwd=self.home,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def judge(self, folder: Path) -> None:
        """Checks that Flower and the run folder both say that the run completed.

        Raises:
            RunFailed: If either does not, or if no run was started.
        """
        found = re.search(r"started run (\d+)", self._said())
        if not found:
            said = last_sentence(self._said())
            raise RunFailed(f"flwr run did not start a run: {said or 'it said nothing'}; its log is {self.log}")
        ask = ["list", "local-fedlaw", "--run-id", found[1], "--format", "json"]
        try:
            listing = subprocess.run(
                [str(Path(sys.executable).parent / "flwr"), *ask],
                cwd=self.home,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_ASK,
            ).stdout
        except subprocess.TimeoutExpired:
            listing = ""
        status = re.search(r'"status":\s*"([^"]+)"', listing)
        said = status[1] if status else "unknown"
        end = Run.read(folder).end if (folder / EVENTS).exists() else None
        if said != "finished:completed" or end is None or end.status != "completed":
            reason = end.reason if end else _last_error(self.log)
            raise RunFailed(f"the run is {said}{f': {reason}' if reason else ''}; its log is {self.log}")

    def _said(self) -> str:
        """What its processes have said."""
        return self.log.read_bytes()[self._before :].decode(errors="replace")

    def wait_until_up(self, process: "subprocess.Popen[bytes]") -> None:
        """Returns when the SuperLink answers.

        Raises:
            RunFailed: If it ends, or does not answer within 60 s.
        """
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=1.0, trust_env=False).is_success:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        said = last_sentence(self._said())
        raise RunFailed(
            f"Flower's SuperLink did not come up on port {self.port}: {said or 'it said nothing'}; "
            f"its log is {self.log}"
        )


@contextmanager
def superlink(folder: Path) -> Iterator[Flower]:
    """A SuperLink in simulation mode on a free port; on leaving, it and every process it led to are ended.

    Args:
        folder: The run folder, made if it is not there; the log goes into it.

    Raises:
        ModuleNotFoundError: If psutil or ray is not installed, with what to install.
        RunFailed: If the SuperLink does not come up.
    """
    # Missing, they must be missed before anything is started that needs ending.
    for library in ("psutil", "ray"):
        if find_spec(library) is None:
            raise ModuleNotFoundError(what_to_install(ModuleNotFoundError(name=library)))

    folder.mkdir(parents=True, exist_ok=True)
    with _empty_folder() as home:
        port = free_port()
        flwr = Flower(home, folder / LOG, port)
        (home / "config.toml").write_text(
            "[superlink]\n"
            'default = "local-fedlaw"\n\n'
            "[superlink.local-fedlaw]\n"
            f'address = "127.0.0.1:{port}"\n'
            "insecure = true\n"
        )
        address = ["--host", "127.0.0.1", "--port", str(port)]
        options = ["--insecure", "--simulation", "--isolation", "subprocess", "--database", str(home / "state.db")]
        process = flwr.start([*options, *address], program="flower-superlink")
        try:
            flwr.wait_until_up(process)
            yield flwr
        finally:
            end_processes("FLWR_HOME", str(home))


@contextmanager
def _empty_folder() -> Iterator[Path]:
    """A temporary folder, one in which Ray's sockets have room where Ray's own place has none.

    What a process that is just ending still writes there stays.
    """
    home = Path(tempfile.mkdtemp(prefix="fedlaw-")) if _has_room_for_ray() else folder_for_sockets(_SESSION)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _has_room_for_ray() -> bool:
    """Whether the paths of Ray's sockets are short enough in the temporary folder that it takes."""
    place = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return len(os.fsencode(place)) + _SESSION <= LONGEST_SOCKET


def _follow(folder: Path, process: "subprocess.Popen[bytes]", longest: float, before: int = 0) -> Iterator[Event]:
    """The folder's events as they are written, until the process has ended and all are read.

    Args:
        folder: The run folder.
        process: What runs it.
        longest: Seconds after which a run that tells of nothing is given up.
        before: The file of its events before it was resumed, which is not read. Default: there was none.

    Raises:
        RunFailed: If no event comes for `longest` seconds, with the last sentence of Flower's log.
    """
    seen, ended = 0, False
    last = time.monotonic()
    while True:
        over = process.poll() is not None
        if inode_of(folder) not in (0, before):
            events = list(read_events(folder))
            if events[seen:]:
                last = time.monotonic()
            yield from events[seen:]
            seen, ended = len(events), any(isinstance(event, RunEnded) for event in events)
        silent = time.monotonic() - last
        if over or (ended and silent > _SETTLE):
            return
        if silent > longest:
            log = folder / LOG
            said = last_sentence(log.read_text(errors="replace")) if log.exists() else ""
            raise RunFailed(
                f"nothing has happened for {silent:.0f} s, longer than the run's timeouts allow, so it was ended; "
                f"Flower said last: {said or 'nothing'}; its log is {log}"
            )
        time.sleep(_POLL)


def _last_error(log: Path) -> str:
    """The last line of the log that names an exception, for a run that ended before it could say why."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    named = [line for line in lines if re.match(r"^[\w.]*(Error|Exception|Exit)\b", line)]
    return named[-1] if named else ""
