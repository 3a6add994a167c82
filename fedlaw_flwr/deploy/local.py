"""A whole federation as processes on this machine: TLS, node keys, SQLite, process isolation, and no container."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from fedlaw_flwr.apps.shipped import server as shipped_server
from fedlaw_flwr.deploy.backup import DATABASE, REGISTERED, RUNS, STATE, keys_and_certificates
from fedlaw_flwr.deploy.control import Control, follow
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder, write_private
from fedlaw_flwr.deploy.package import run_config
from fedlaw_flwr.events.folder import RunFailed
from fedlaw_flwr.events.types import OnEvent, RunEnded
from fedlaw_flwr.silo.config import SiloConfig
from fedlaw_flwr.silo.guard import PACKAGES, install_guard
from fedlaw_flwr.silo.packages import own_digest
from fedlaw_flwr.simulation.processes import end_processes, free_port, processes_with

_MARK = "FEDLAW_LOCAL"
"""The environment variable every process of a local federation carries, its children too; its value is the folder."""

_START, _END, _LET_IN = 60.0, 10.0, 180.0
_ACTIVATED = b"SuperNode ID"
"""What Flower's SuperNode says once the SuperLink has let it in."""

_LOCAL = "local-fedlaw"


class LocalFederation:
    """The processes of one federation, by name: `superlink`, `server-app`, and for each silo three.

    SILO-node is Flower's SuperNode with the silo's key, SILO-app the SuperExec that runs what Flower ships, SILO-data
    the institution's own process (`fedlaw silo`). Everything they write lies under `local` in the federation's folder.
    """

    def __init__(self, federation: Federation, folder: FederationFolder) -> None:
        self.federation, self.folder = federation, folder
        self.path = folder.path / "local"
        self._programs = Path(sys.executable).parent

    @property
    def runs(self) -> Path:
        """Where run folders go. They stay when the federation is taken down."""
        return self.folder.path / RUNS

    @property
    def names(self) -> list[str]:
        """All processes, in the order in which they are started."""
        silos = [f"{silo.name}-{part}" for silo in self.federation.silos for part in ("data", "node", "app")]
        return ["superlink", "server-app", *silos]

    def parts(self) -> dict[str, Path]:
        """What a backup of this federation is made of: each part by its name in the archive."""
        files = (self.path / DATABASE, self.path / REGISTERED)
        folders = {RUNS: self.runs, STATE: self.path / STATE}
        return {**keys_and_certificates(self.folder), **{path.name: path for path in files}, **folders}

    # -- all of it ---------------------------------------------------------------------------------------------

    def up(self, silos: Sequence[str] | None = None) -> None:
        """Starts what is not running, registers every silo's key and waits until these silos are online (all).

        Raises ValueError where a silo's private key is not here (only a drill has it), RunFailed where a process ends,
        TimeoutError where a node is not let in.
        """
        wanted = [silo.name for silo in self.federation.silos] if silos is None else list(silos)
        for name in wanted:
            if not self.folder.private_key(name).exists():
                raise ValueError(
                    f"{self.folder.private_key(name)} is missing: a federation on one machine needs every silo's key; "
                    "`fedlaw deploy init --drill` makes them"
                )
        self.start("superlink")
        self._wait_until_up()
        self.start("server-app")
        control = self.control()
        control.register({name: str(self.folder.public_key(name)) for name in wanted})
        self.let_in(wanted)
        control.wait_online(wanted)
        dead = [name for name in self._of(wanted) if not self.pid(name)]
        if dead:
            raise RunFailed(f"{', '.join(dead)} ended at once; see {self.path / 'logs'}")

    def down(self) -> None:
        """Ends every process. Run folders, logs, keys and the SuperLink's database stay."""
        end_processes(_MARK, str(self.folder.path))
        shutil.rmtree(self._sockets(), ignore_errors=True)

    def run(self, on_event: OnEvent, changed: Mapping[str, Any] | None = None) -> Path:
        """Submits one run of the rendered package, some settings changed, follows it to its end; returns its folder.

        Raises RunFailed unless both Flower and the folder say that it completed.
        """
        if not self.pid("superlink"):
            raise RunFailed("this federation is not up; `fedlaw deploy local up` starts it")
        control = self.control()
        number = control.submit(str(self.folder.package), run_config(self.federation, changed))
        folder = self.runs / f"run-{number}"
        ended = ""
        for event in follow(folder, lambda: control.status(number).startswith("finished")):
            on_event(event)
            if isinstance(event, RunEnded):
                ended = event.status + (f": {event.reason}" if event.reason is not None else "")
        said = self._settled(control, number)
        if said != "finished:completed" or ended != "completed":
            raise RunFailed(f"run {number} is {said}, its folder says {ended or 'nothing'}; see {folder}")
        return folder

    def _settled(self, control: Control, number: str) -> str:
        """Flower's last word on a run whose folder is complete: it comes a moment later."""
        deadline = time.monotonic() + _START
        while not (said := control.status(number)).startswith("finished") and time.monotonic() < deadline:
            time.sleep(0.5)
        return said

    # -- one process -------------------------------------------------------------------------------------------

    def start_silo(self, name: str) -> None:
        """Starts the three processes of one silo, its own first."""
        for part in ("data", "node", "app"):
            self.start(f"{name}-{part}")

    def restart_silo(self, name: str) -> None:
        """Ends the three processes of one silo, starts them anew and returns when its node has been let in.

        Raises ValueError where no SuperLink runs, TimeoutError as `let_in`.
        """
        if not self.pid("superlink"):
            raise ValueError("the SuperLink is not running; `fedlaw deploy local up` starts the whole federation")
        for part in ("app", "node", "data"):
            self._end(f"{name}-{part}")
        self.let_in([name])

    def let_in(self, names: Sequence[str]) -> None:
        """Starts what does not run of these silos and returns when the SuperLink has let in every node started here.

        A node that was online a moment ago, or when a backup was made, is refused until the SuperLink has noticed that
        it had gone: it is started again until then, as a restart policy would. Raises TimeoutError, naming who waits.
        """
        logs = {name: self.log(f"{name}-node") for name in names if not self.pid(f"{name}-node")}
        said = {name: log.stat().st_size if log.exists() else 0 for name, log in logs.items()}
        for name in names:
            self.start_silo(name)
        deadline = time.monotonic() + _LET_IN
        while waiting := [name for name, log in logs.items() if _ACTIVATED not in log.read_bytes()[said[name] :]]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not let in within {_LET_IN:.0f} s: {', '.join(waiting)}; see {self.path / 'logs'}")
            time.sleep(0.5)
            for name in waiting:
                self.start(f"{name}-node")

    def _end(self, name: str) -> None:
        """Ends one process, if it runs, with the children it started; returns when it is gone."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + _END
            if pid := self.pid(name):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, how)
                    os.killpg(pid, signal.SIGCONT)  # a stopped process takes no SIGTERM
            while self.pid(name) and time.monotonic() < deadline:
                time.sleep(0.1)

    def start(self, name: str) -> None:
        """Starts one process unless it runs, its output appended to its log."""
        if self.pid(name):
            return
        home = self.path / "homes" / name
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                self._command(name),
                cwd=home,
                env={**self._environment(home), **self._guard(name), "FEDLAW_PROCESS": name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        (home / "pid").write_text(str(process.pid))

    def stop(self, name: str, how: int = signal.SIGTERM) -> None:
        """Sends one process this signal; SIGKILL and SIGTERM reach the children it started as well."""
        pid = self.pid(name)
        if not pid:
            raise ValueError(f"{name} is not running")
        if how in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(pid, how)
        else:
            os.kill(pid, how)

    def pid(self, name: str) -> int:
        """The process id, 0 if it is not running."""
        path = self.path / "homes" / name / "pid"
        if not path.exists():
            return 0
        pid = int(path.read_text())
        return pid if pid in processes_with("FEDLAW_PROCESS", name, [pid]) else 0

    def log(self, name: str) -> Path:
        """Where this process writes."""
        path = self.path / "logs" / f"{name}.log"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def port(self, name: str) -> int:
        """The port of the superlink or of a silo's node: the same for as long as the folder stands."""
        if name == "superlink":
            return self.federation.superlink.port
        path = self.path / "ports.json"
        ports: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
        if name not in ports:
            ports[name] = free_port()
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_text(json.dumps(ports))
        return ports[name]

    def control(self) -> Control:
        """The operator's commands against this SuperLink."""
        home = self.path / "homes" / "operator"
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "{_LOCAL}"\n\n[superlink.{_LOCAL}]\n'
            f'address = "127.0.0.1:{self.port("superlink")}"\n'
            f"root-certificates = {json.dumps(str(self.folder.ca_certificate))}\n"
        )
        return Control([str(self._programs / "flwr")], _LOCAL, self.path / REGISTERED, self._environment(home))

    # -- how -----------------------------------------------------------------------------------------------------

    def _command(self, name: str) -> list[str]:
        link = f"127.0.0.1:{self.port('superlink')}"
        authority = str(self.folder.ca_certificate)
        if name == "superlink":
            certificates = ["--ssl-certfile", str(self.folder.server_certificate)]
            certificates += ["--ssl-keyfile", str(self.folder.server_key), "--ssl-ca-certfile", authority]
            return [
                str(self._programs / "flower-superlink"),
                *("--host", "127.0.0.1", "--port", str(self.port(name)), *certificates),
                *("--enable-supernode-auth", "--isolation", "process", "--disable-runtime-dependency-installation"),
                *("--database", str(self.path / DATABASE)),
                *self._secret("superlink"),
            ]
        if name == "server-app":
            return [
                str(self._programs / "flower-superexec"),
                *("--runtime-api-address", link, "--root-certificates", authority, *self._secret("superlink")),
            ]
        silo, _, part = name.rpartition("-")
        node = f"127.0.0.1:{self.port(f'{silo}-node') if part != 'data' else 0}"
        path = self._sockets() / f"{silo}.sock"
        if part == "node":
            return [
                str(self._programs / "flower-supernode"),
                *("--superlink", link, "--root-certificates", authority),
                *("--auth-supernode-private-key", str(self.folder.private_key(silo))),
                *("--host", "127.0.0.1", "--port", node.rpartition(":")[2], "--isolation", "process"),
                *("--node-config", f'socket="{path}"', *self._secret(f"{silo}-node")),
            ]
        if part == "app":
            return [
                str(self._programs / "flower-superexec"),
                *("--insecure", "--runtime-api-address", node, *self._secret(f"{silo}-node")),
            ]
        own = self.folder.silo(silo) / "silo.yaml"
        state = self.path / STATE / silo
        return [str(self._programs / "fedlaw"), "silo", str(own), "--socket", str(path), "--state", str(state)]

    def _environment(self, home: Path) -> dict[str, str]:
        environment = {
            **os.environ,
            "FLWR_HOME": str(home),
            _MARK: str(self.folder.path),
            shipped_server.RUNS: str(self.runs),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            # Flower starts its helpers by name: they must be those of this environment.
            "PATH": os.pathsep.join([str(self._programs), os.environ.get("PATH", "")]),
        }
        environment.pop("PYTHONPATH", None)
        return environment

    def _guard(self, name: str) -> dict[str, str]:
        """What a SILO-app's environment has and no other's: our guard, where Flower looks for its own program."""
        silo, _, part = name.rpartition("-")
        if part != "app" or name == "server-app":
            return {}
        folder = self.path / "guard"
        install_guard(folder, own_digest())
        packages = SiloConfig.read(self.folder.silo(silo) / "silo.yaml").packages
        path = [str(folder), str(self._programs), os.environ.get("PATH", "")]
        return {"PATH": os.pathsep.join(path), PACKAGES: ",".join(packages)}

    def _secret(self, name: str) -> list[str]:
        """The option by which this process and its SuperExec know each other: a secret file, made when first needed."""
        path = self.path / "homes" / name / "superexec.secret"
        if not path.exists():
            write_private(path, secrets.token_bytes(32))
        return ["--superexec-auth-secret-file", str(path)]

    def _sockets(self) -> Path:
        """Where the silos' sockets lie: a short path, since a Unix socket's may have 108 bytes at most."""
        noted = self.path / "sockets"
        if noted.exists() and Path(noted.read_text()).is_dir():
            return Path(noted.read_text())
        noted.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix="fedlaw-")
        noted.write_text(made)
        return Path(made)

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + _START
        trusted = ssl.create_default_context(cafile=str(self.folder.ca_certificate))
        while time.monotonic() < deadline and self.pid("superlink"):
            try:
                answer = httpx.get(f"https://127.0.0.1:{self.port('superlink')}/health", verify=trusted, timeout=2.0)
                if answer.is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)
        said = [line for line in self.log("superlink").read_text(errors="replace").splitlines() if "ERROR" in line]
        why = f": {said[-1].partition('ERROR')[2].strip()}" if said else ""
        raise RunFailed(
            f"the SuperLink did not come up on port {self.port('superlink')}{why}; its log is {self.log('superlink')}"
        )

    def _of(self, silos: Sequence[str]) -> list[str]:
        return ["superlink", "server-app", *(f"{silo}-{part}" for silo in silos for part in ("data", "node", "app"))]
