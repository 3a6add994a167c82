"""A real `flwr run` in simulation, from start to verdict: its own SuperLink, followed live, every process ended."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import httpx

from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.core.extras import what_to_install
from fedlaw_flwr.events.folder import EVENTS, RunFailed, read_events
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import Event, OnEvent
from fedlaw_flwr.simulation.flower_app import write_app
from fedlaw_flwr.simulation.processes import end_processes, free_port

_START = 60.0


def simulate(settings: Settings, folder: Path, on_event: OnEvent, cpus_per_silo: int = 1) -> None:
    """`flwr run` of the simulation's app with these settings, its events handed to on_event as they happen.

    The SuperLink is this run's own: own FLWR_HOME, own port, started in an empty directory so that it serves no other
    project's code, and ended with all it started. Flower's exit code is not believed: the run must be
    `finished:completed` and its folder must say so too. Raises RunFailed otherwise.
    """
    folder = folder.resolve()
    settings = replace(settings, run_dir=str(folder))
    with superlink(folder) as flwr:
        app = write_app(flwr.home / "simulation-app", settings)  # a name with a hyphen, so that nothing imports it
        federation = f"num-supernodes={settings.num_silos} client-resources-num-cpus={cpus_per_silo}"
        process = flwr.start(["run", str(app), "local-fedlaw", "--stream", "--federation-config", federation])
        for event in _follow(folder, process):
            on_event(event)
        flwr.judge(folder)


class Flower:
    """A SuperLink of our own and the `flwr` commands that talk to it."""

    def __init__(self, home: Path, log: Path, port: int) -> None:
        self.home, self.log, self.port = home, log, port
        self._environment = {
            **os.environ,
            "FLWR_HOME": str(home),
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(port),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            # Flower starts its helpers by name: they must be those of this environment.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }
        self._environment.pop("PYTHONPATH", None)

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
        """Raises RunFailed unless Flower and the run folder both say that the run completed."""
        found = re.search(r"started run (\d+)", self.log.read_text(errors="replace"))
        if not found:
            raise RunFailed(f"flwr run did not start a run; its log is {self.log}")
        ask = ["list", "local-fedlaw", "--run-id", found[1], "--format", "json"]
        listing = subprocess.run(
            [str(Path(sys.executable).parent / "flwr"), *ask],
            cwd=self.home,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        status = re.search(r'"status":\s*"([^"]+)"', listing)
        said = status[1] if status else "unknown"
        end = Run.read(folder).end if (folder / EVENTS).exists() else None
        if said != "finished:completed" or end is None or end.status != "completed":
            reason = end.reason if end else _last_error(self.log)
            raise RunFailed(f"the run is {said}{f': {reason}' if reason else ''}; its log is {self.log}")

    def wait_until_up(self, process: "subprocess.Popen[bytes]") -> None:
        """Returns when the SuperLink answers; raises RunFailed if it ends or does not."""
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=1.0).is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)
        raise RunFailed(f"Flower's SuperLink did not come up on port {self.port}; its log is {self.log}")


@contextmanager
def superlink(folder: Path) -> Iterator[Flower]:
    """A SuperLink in simulation mode on a free port; on leaving, it and every process it led to are ended."""
    # Missing, they must be missed before anything is started that needs ending.
    for library in ("psutil", "ray"):
        if find_spec(library) is None:
            raise ModuleNotFoundError(what_to_install(ModuleNotFoundError(name=library)))

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fedlaw-") as empty:
        home, port = Path(empty), free_port()
        flwr = Flower(home, folder / "flower.log", port)
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


def _follow(folder: Path, process: "subprocess.Popen[bytes]") -> Iterator[Event]:
    """The folder's events as they are written, until the process has ended and all are read."""
    seen = 0
    while True:
        over = process.poll() is not None
        if (folder / EVENTS).exists():
            events = list(read_events(folder))
            yield from events[seen:]
            seen = len(events)
        if over:
            return
        time.sleep(0.3)


def _last_error(log: Path) -> str:
    """The last line of the log that names an exception, for a run that ended before it could say why."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    named = [line for line in lines if re.match(r"^[\w.]*(Error|Exception|Exit)\b", line)]
    return named[-1] if named else ""
