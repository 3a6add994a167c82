"""A whole federation as processes on this machine: TLS, node keys, SQLite, process isolation, and no container."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from fedlaw_flwr.apps.shipped import server as shipped_server
from fedlaw_flwr.apps.shipped.client import LONGEST_SOCKET
from fedlaw_flwr.checkpoints.store import CHECKPOINTS
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.deploy.attempts import to_its_end
from fedlaw_flwr.deploy.backup import DATABASE, REGISTERED, RUNS, STATE, keys_and_certificates
from fedlaw_flwr.deploy.certificates import must_be_trusted
from fedlaw_flwr.deploy.control import Control, follow
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder, write_private
from fedlaw_flwr.deploy.local_ports import LocalPorts
from fedlaw_flwr.events.folder import RunFailed, inode_of
from fedlaw_flwr.events.types import Event, OnEvent
from fedlaw_flwr.protocol.text import last_sentence
from fedlaw_flwr.silo.config import SiloConfig
from fedlaw_flwr.silo.guard import PACKAGES, install_guard
from fedlaw_flwr.silo.packages import own_digest
from fedlaw_flwr.simulation.processes import end_processes, folder_for_sockets, processes_with, without_proxy

_MARK = "FEDLAW_LOCAL"
"""The environment variable every process of a local federation carries, its children too; its value is the folder."""

_START, _END, _LET_IN = 60.0, 10.0, 180.0
_LOADING = 3600.0
"""Seconds that a silo's own process may take to load its data. It may be busy for long; it must not be waited for."""
_QUIET = 10.0
"""Seconds after which the operator is told what is waited for."""
_LISTENS = b"answers at"
"""What a silo's own process says once it listens."""
_ACTIVATED = b"SuperNode ID"
"""What Flower's SuperNode says once the SuperLink has let it in."""

_LOCAL = "local-fedlaw"
_LAST = 2**16
"""Bytes at a log's end among which the last sentence is looked for."""

Say = Callable[[str], None]
"""Tells the operator something."""


class LocalFederation:
    """The processes of one federation, by name: `superlink`, `server-app`, and for each silo three.

    SILO-node is Flower's SuperNode with the silo's key, SILO-app the SuperExec that runs what Flower ships, SILO-data
    the institution's own process (`fedlaw silo`). Everything they write lies under `local` in the federation's folder.
    """

    def __init__(self, federation: Federation, folder: FederationFolder) -> None:
        self.federation, self.folder = federation, folder
        self.path = folder.path / "local"
        self._programs = Path(sys.executable).parent
        self._ports = LocalPorts(self.path / "ports.json", federation.superlink.port)
        self._started: dict[str, subprocess.Popen[bytes]] = {}

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

    def up(self, silos: Sequence[str] | None = None, say: Say | None = None) -> None:
        """Starts what is not running, registers every silo's key and waits until all these silos can take part.

        A silo can take part when its node is online and its own process has loaded its data and listens. What can be
        seen to be wrong beforehand (keys, certificates, ports, paths) is said before anything is started.

        Args:
            silos: Their names; all by default.
            say: Called with a sentence about what is waited for, if that takes long.

        Raises:
            InputError: For what is wrong beforehand, such as a silo's private key that is not here.
            RunFailed: Where a process ends, with whose it is and what its own log says last.
            TimeoutError: Where a node is not let in.
        """
        wanted = [silo.name for silo in self.federation.silos] if silos is None else list(silos)
        for name in wanted:
            if not self.folder.private_key(name).exists():
                raise InputError(
                    f"{self.folder.private_key(name)} is missing: a federation on one machine needs every silo's key; "
                    f"`fedlaw deploy init --drill {self.folder.file}` makes them"
                )
        self._look(wanted)
        self.start("superlink")
        self._wait_until_up()
        self.start("server-app")
        control = self.control()
        control.register({name: str(self.folder.public_key(name)) for name in wanted})
        self.let_in(wanted, say)
        control.wait_online(wanted)
        dead = [name for name in self._of(wanted) if not self.pid(name)]
        if dead:
            raise RunFailed("\n".join(f"{name} ended at once: {self._last_words(name)}" for name in dead))

    def down(self) -> None:
        """Ends every process. Run folders, logs, keys and the SuperLink's database stay."""
        end_processes(_MARK, str(self.folder.path))
        if sockets := self._noted_sockets():
            shutil.rmtree(sockets, ignore_errors=True)

    def run(
        self,
        on_event: OnEvent,
        changed: Mapping[str, Any] | None = None,
        begun: Callable[[Path], None] | None = None,
    ) -> Path:
        """Submits one run of the rendered package and follows it to its end: see `attempts.to_its_end`.

        Raises:
            RunFailed: As there; also if the federation is not up.
        """
        if not self.pid("superlink"):
            raise RunFailed("this federation is not up; `fedlaw deploy local up` starts it")
        must_be_trusted(self.federation, self.folder)
        return to_its_end(self, self.control(), on_event, changed, begun)

    @property
    def app(self) -> str:
        """See `attempts.Place`."""
        return str(self.folder.package)

    def inode(self, name: str) -> int:
        """See `attempts.Place`."""
        return inode_of(self.runs / name)

    @contextlib.contextmanager
    def following(
        self, number: str, name: str, scratch: Path, before: int = 0
    ) -> Iterator[tuple[Path, Iterator[Event]]]:
        """See `attempts.Place`."""
        folder = self.runs / name
        yield folder, follow(folder, partial(self.control().is_over, number), before=before)

    def has_checkpoints(self, name: str) -> bool:
        """See `attempts.Place`."""
        return (self.runs / name / CHECKPOINTS).is_dir()

    def last_words(self, number: str) -> str:
        """See `attempts.Place`."""
        return self._last_words("server-app")

    def fetched(self, name: str) -> Path:
        """See `attempts.Place`."""
        return self.runs / name

    # -- one process -------------------------------------------------------------------------------------------

    def start_silo(self, name: str) -> None:
        """Starts the three processes of one silo, its own first."""
        for part in ("data", "node", "app"):
            self.start(f"{name}-{part}")

    def restart_silo(self, name: str) -> None:
        """Ends the three processes of one silo, starts them anew and returns when it can take part again.

        Args:
            name: The silo's name.

        Raises:
            InputError: If no SuperLink runs, and otherwise as `up` raises it.
            RunFailed: As `up` raises it.
            TimeoutError: As `up` raises it.
        """
        if not self.pid("superlink"):
            raise InputError("the SuperLink is not running; `fedlaw deploy local up` starts the whole federation")
        self._look([name])
        for part in ("app", "node", "data"):
            self._end(f"{name}-{part}")
        self.let_in([name])

    def let_in(self, names: Sequence[str], say: Say | None = None) -> None:
        """Starts what does not run of these silos and returns when all of them can take part.

        A node that was online a moment ago, or when a backup was made, is refused until the SuperLink has noticed that
        it had gone: it is started again until then, as a restart policy would. A silo's own process is started once:
        if it ends before it listens, its data or its silo.yaml are wrong.

        Raises:
            RunFailed: Where a silo's own process or the SuperLink ends, with the last sentence of its log. All silos
                are waited for first, so that every one with wrong data is named.
            TimeoutError: Where nodes are not let in, or own processes do not listen, in the time they have.
        """
        self._end_the_cut_off(names)
        logs = {name: self.log(f"{name}-node") for name in names if not self.pid(f"{name}-node")}
        said = {name: log.stat().st_size if log.exists() else 0 for name, log in logs.items()}
        for name in names:
            self.start_silo(name)
        started, told = time.monotonic(), False
        ready, failed = set[str](), dict[str, str]()
        while True:
            waiting = [name for name, log in logs.items() if _ACTIVATED not in log.read_bytes()[said[name] :]]
            ready |= {name for name in names if name not in ready and self.listens(name)}
            left = [name for name in names if name not in ready and name not in failed]
            ended = [name for name in left if not self.pid(f"{name}-data")]
            failed |= {name: self._last_words(f"{name}-data") for name in ended}
            loading = [name for name in left if name not in failed]
            if not self.pid("superlink"):
                raise RunFailed(f"the SuperLink has ended: {self._last_words('superlink')}")
            if failed and not loading:
                raise RunFailed(
                    "\n".join(
                        f"{name}'s own process ended before it could answer: {why}" for name, why in failed.items()
                    )
                )
            if not waiting and not loading:
                return
            seconds = time.monotonic() - started
            if waiting and seconds > _LET_IN:
                words = "; ".join(f"{name}'s node: {self._last_words(f'{name}-node', said[name])}" for name in waiting)
                where = self.path / "logs"
                raise TimeoutError(f"not let in within {_LET_IN:.0f} s: {', '.join(waiting)}; see {where}; {words}")
            if loading and seconds > _LOADING:
                raise TimeoutError(
                    f"still loading after {_LOADING:.0f} s: {', '.join(loading)}; the logs of their own processes "
                    f"({loading[0]}-data) in {self.path / 'logs'} say how far they are"
                )
            if say and not told and seconds > _QUIET:
                what = [f"the data of {', '.join(loading)}"] if loading else []
                what += [f"the server to let in {', '.join(waiting)}"] if waiting else []
                say(f"waiting for {' and for '.join(what)}")
                told = True
            time.sleep(0.5)
            for name in waiting:
                self.start(f"{name}-node")

    def listens(self, silo: str) -> bool:
        """Whether this silo's own process listens at its socket, as it does once its data are loaded."""
        folder = self._noted_sockets()
        if folder is None:
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_START)
            try:
                probe.connect(str(folder / f"{silo}.sock"))
            except BlockingIOError:  # others wait there already
                return True
            except OSError:
                return False
        return True

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
            (home / "began").write_text(str(log.tell()))
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
        self._started[name] = process

    def stop(self, name: str, how: int = signal.SIGTERM) -> None:
        """Sends one process this signal; SIGKILL and SIGTERM reach the children it started as well."""
        pid = self.pid(name)
        if not pid:
            raise InputError(f"{name} is not running")
        if how in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(pid, how)
        else:
            os.kill(pid, how)

    def pid(self, name: str) -> int:
        """The process id, 0 if it is not running."""
        path = self.path / "homes" / name / "pid"
        if not path.exists():
            return 0
        noted = path.read_text().strip()
        if not noted.isdecimal():  # the machine went down as it was written
            return 0
        pid = int(noted)
        own = self._started.get(name)
        if own is not None and own.pid == pid:  # the environment of a process that has just begun reads as empty
            return pid if own.poll() is None else 0
        return pid if pid in processes_with("FEDLAW_PROCESS", name, [pid]) else 0

    def log(self, name: str) -> Path:
        """Where this process writes."""
        path = self.path / "logs" / f"{name}.log"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def port(self, name: str) -> int:
        """The port of the superlink or of a silo's node: the same for as long as the folder stands."""
        return self._ports.of(name)

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
            **without_proxy(os.environ),
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
        if found := self._noted_sockets():
            return found
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = folder_for_sockets(self._room())
        (self.path / "sockets").write_text(str(made))
        return made

    def _noted_sockets(self) -> Path | None:
        """The folder of the silos' sockets; None where there is none yet, or where it is gone or too long."""
        noted = self.path / "sockets"
        folder = Path(noted.read_text()) if noted.exists() else None
        if folder is None or not folder.is_absolute() or not folder.is_dir():
            return None
        return folder if len(os.fsencode(folder)) + self._room() <= LONGEST_SOCKET else None

    def _room(self) -> int:
        """The bytes of the longest socket's name, with the slash before it."""
        return max(len(f"/{silo.name}.sock") for silo in self.federation.silos)

    def _look(self, names: Sequence[str]) -> None:
        """Says what would keep the server or these silos from starting, before anything is started or ended."""
        must_be_trusted(self.federation, self.folder)
        for name in names:
            own = self.folder.silo(name) / "silo.yaml"
            if not own.exists():
                raise InputError(f"{own} is missing: `fedlaw deploy render {self.folder.file}` writes it")
            SiloConfig.read(own)
        self._ports.check(name for name in ("superlink", *(f"{name}-node" for name in names)) if not self.pid(name))
        self._sockets()

    def _end_the_cut_off(self, names: Sequence[str]) -> None:
        """Ends the processes of silos whose socket is gone, as where a temporary folder was tidied: they never meet."""
        for name in names:
            data = f"{name}-data"
            if not self.pid(data) or self.listens(name) or _LISTENS not in self._said(data):
                continue
            for part in ("app", "node", "data"):
                self._end(f"{name}-{part}")

    def _said(self, name: str, begin: int | None = None) -> bytes:
        """What this process has written since it was started last, or from this byte of its log on."""
        began, log = self.path / "homes" / name / "began", self.log(name)
        noted = began.read_text().strip() if began.exists() else ""
        written = log.read_bytes() if log.exists() else b""
        return written[begin if begin is not None else int(noted) if noted.isdecimal() else 0 :]

    def _last_words(self, name: str, begin: int | None = None) -> str:
        """The last sentence of this process's log or, where it has none, how it ended; and where the log is."""
        process, code = self._started.get(name), None
        if process and not self.pid(name):
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(_START)  # it is gone, or just going
        words = last_sentence(self._said(name, begin)[-_LAST:].decode(errors="replace"))
        if code is not None and code < 0:
            killed = f"it was ended by {signal.Signals(-code).name}"
            killed += ", as the system does where memory runs out" if -code == signal.SIGKILL else ""
            words = f"{killed}; before that: {words}" if words else killed
        return f"{words or 'it said nothing'}; its log is {self.log(name)}"

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + _START
        trusted = ssl.create_default_context(cafile=str(self.folder.ca_certificate))
        address = f"https://127.0.0.1:{self.port('superlink')}/health"
        while time.monotonic() < deadline and self.pid("superlink"):
            try:
                if httpx.get(address, verify=trusted, timeout=2.0, trust_env=False).is_success:
                    return
            except httpx.HTTPError as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise RunFailed(
                        f"the SuperLink runs with a certificate that silos refuse ({error}): `fedlaw deploy local down "
                        f"{self.folder.file}`, then `up`, starts it with the one in {self.folder.path}"
                    ) from None
            time.sleep(0.2)
        said = [line for line in self._said("superlink").decode(errors="replace").splitlines() if "ERROR" in line]
        why = said[-1].partition("ERROR")[2].strip(" :") if said else ""
        last = f"{why}; its log is {self.log('superlink')}" if why else self._last_words("superlink")
        raise RunFailed(f"the SuperLink did not come up on port {self.port('superlink')}: {last}")

    def _of(self, silos: Sequence[str]) -> list[str]:
        return ["superlink", "server-app", *(f"{silo}-{part}" for silo in silos for part in ("data", "node", "app"))]
