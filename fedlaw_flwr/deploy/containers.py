"""A whole federation as containers on this machine: images, keys, docker-compose, a run from start to end."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedlaw_flwr.apps.shipped.client import SOCKET
from fedlaw_flwr.checkpoints.store import CHECKPOINTS
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.flower import installed
from fedlaw_flwr.deploy.attempts import to_its_end
from fedlaw_flwr.deploy.backup import REGISTERED, RUNS
from fedlaw_flwr.deploy.certificates import must_be_trusted
from fedlaw_flwr.deploy.compose import USER
from fedlaw_flwr.deploy.control import Control, follow
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder, write_rendered
from fedlaw_flwr.deploy.preparation import forget_replaced
from fedlaw_flwr.deploy.retention import prune
from fedlaw_flwr.events.folder import EVENTS, SETTINGS, RunFailed
from fedlaw_flwr.events.types import Event, OnEvent
from fedlaw_flwr.protocol.text import last_sentence
from fedlaw_flwr.simulation.processes import holder_of

_PREFIX = re.compile(r"^[\w.-]+\s*\|\s?")
"""What compose writes before each line of a container's log."""
_CHECKOUT = Path(__file__).parents[2]
_BEGIN, _SILENCE = 180.0, 20.0
_LOADING, _LOOK = 3600.0, 2.0
"""Seconds that a silo's own process may take to load its data, and between two looks at it."""


class Containers:
    """The containers of one federation: the server's, and NAME-node, NAME-app and NAME-data of every silo that is here.

    A silo is here if its private key is: in a drill all are, in a real federation none, each on a machine of its own.
    What runs is what compose.yml in the federation's folder says, as the project `fedlaw-NAME`; run folders are copied
    out into `runs` beside it.
    """

    def __init__(self, federation: Federation, folder: FederationFolder) -> None:
        self.federation, self.folder = federation, folder
        self.project = f"fedlaw-{federation.name}"

    @property
    def runs(self) -> Path:
        """Where the folders of finished runs are copied to."""
        return self.folder.path / RUNS

    @property
    def registered(self) -> Path:
        """Which node id Flower gave each silo's key: true as long as the SuperLink's database stands."""
        return self.folder.path / "containers" / REGISTERED

    def build(self, arguments: Mapping[str, str] | None = None) -> None:
        """Builds the images from this checkout, with the release of Flower that is installed here.

        Args:
            arguments: The Dockerfiles' arguments by name: TORCH, TORCH_INDEX, FLWR, EXTRAS, BASE.

        Raises:
            InputError: If this is no checkout, or no Docker engine answers.
            RunFailed: If a build fails.
        """
        if not (_CHECKOUT / "docker" / "Dockerfile.silo").exists():
            raise InputError(f"images are built from a checkout; {_CHECKOUT} has no docker/Dockerfile.silo")
        engine()
        server, silo = self.federation.images.server, self.federation.images.silo
        for name, file, target in (
            (silo, "Dockerfile.silo", "silo"),
            (f"{silo}-drill", "Dockerfile.silo", "drill"),
            (server, "Dockerfile.server", "server"),
            (f"{server}-proxy", "Dockerfile.server", "proxy"),
        ):
            if target == "drill" and not self.federation.drills:
                continue
            # The host's network: a build finds what this machine finds, a proxy on its loopback included.
            command = ["docker", "build", "--network", "host", "--tag", name, "--target", target]
            # Every silo.yaml says which Flower is installed here, and a silo with another does not start.
            for key, value in {"FLWR": f"flwr=={installed()}", **(arguments or {})}.items():
                command += ["--build-arg", f"{key}={value}"]
            if subprocess.run([*command, "--file", f"docker/{file}", "."], cwd=_CHECKOUT, check=False).returncode:
                raise RunFailed(f"the image {name} could not be built; Docker's last lines say why")

    @property
    def here(self) -> list[str]:
        """The silos that run on this machine: their private keys are in the folder."""
        return self.folder.here(silo.name for silo in self.federation.silos)

    def up(self) -> dict[str, str]:
        """Starts the server and the silos that are here, registers every key there is, waits for the silos here.

        A silo that is here is waited for until its node is online and its own process has loaded its data and listens.
        Run again, it starts what is not running and registers what has been accepted since.

        Returns:
            How the SuperLink sees each silo.

        Raises:
            InputError: Where the server's certificates cannot be used, before anything is started.
            RunFailed: Where compose fails, or a silo's own process ends, with the last sentence of its log.
            TimeoutError: Where a silo that is here stays away.
        """
        must_be_trusted(self.federation, self.folder)
        engine()
        self._make_readable()
        # What loads longest begins first; a node is started once its key is registered, else it is turned away.
        self.compose("up", "-d", "server-app", "proxy", "metrics", *(f"{name}-data" for name in self.here))
        self.register()
        self.compose("up", "-d")
        self._wait_for_data()
        self.control().wait_online(self.here, _BEGIN)
        return self.control().silos()

    def _wait_for_data(self) -> None:
        """Returns when the own process of every silo that is here listens, as it does once its data are loaded."""
        loading, failed = list(self.here), dict[str, str]()
        deadline = time.monotonic() + _LOADING
        while loading:
            for name in list(loading):
                status, has_ended, is_healthy = self._state(f"{name}-data")
                if status == "running" and (is_healthy or self._listens(name)):
                    loading.remove(name)
                elif has_ended:
                    loading.remove(name)
                    failed[name] = self._said(f"{name}-data")
            if loading and time.monotonic() > deadline:
                raise TimeoutError(
                    f"still loading after {_LOADING:.0f} s: {', '.join(loading)}; "
                    f"`docker compose logs {loading[0]}-data` in {self.folder.path} says how far it is"
                )
            if loading:
                time.sleep(_LOOK)
        if failed:
            raise RunFailed(
                "\n".join(
                    f"{name}'s own process ends before it can answer: {said or 'it says nothing'}; "
                    f"`docker compose logs {name}-data` in {self.folder.path} has the rest"
                    for name, said in failed.items()
                )
            )

    def _state(self, service: str) -> tuple[str, bool, bool]:
        """A service's container: Docker's word for it, whether it has ended (started anew or not), whether healthy."""
        container = self.compose("ps", "-a", "-q", service).stdout.strip()
        form = "{{.State.Status}} {{.RestartCount}} {{if .State.Health}}{{.State.Health.Status}}{{end}}"
        done = subprocess.run(
            ["docker", "inspect", "--format", form, container], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RunFailed(f"the container of {service} cannot be looked at: {last_sentence(done.stderr)}")
        status, restarts, *health = done.stdout.split()
        return status, status not in ("running", "created") or restarts != "0", health == ["healthy"]

    def _listens(self, silo: str) -> bool:
        """The look of this container's own health check, which Docker itself takes twice a minute."""
        look = ["grep", "-q", SOCKET, "/proc/net/unix"]
        return self._compose("exec", "-T", f"{silo}-data", *look).returncode == 0

    def _said(self, service: str) -> str:
        """The last sentence of a service's log."""
        lines = self._compose("logs", "--no-color", "--tail", "50", service).stdout.splitlines()
        return last_sentence("\n".join(_PREFIX.sub("", line) for line in lines))

    def register(self) -> None:
        """Registers the public key of every silo that has sent one, unless it is registered already."""
        public = {silo.name: self.folder.public_key(silo.name) for silo in self.federation.silos}
        keys = {name: path for name, path in public.items() if path.exists()}
        lines = "".join(f"{name} {key.read_text(encoding='utf-8').strip()}\n" for name, key in keys.items())
        script = 'while read -r name key; do echo "$key" >"/tmp/$name.pub"; done'
        self.compose("exec", "-T", "server-app", "sh", "-c", script, said=lines)
        self.control().register({name: f"/tmp/{name}.pub" for name in keys})

    def reregister(self, name: str) -> None:
        """Takes a silo's old key off the SuperLink, registers the one in the folder, deletes the old one from there.

        The silo's node, if it is here, is started anew.

        Args:
            name: The silo's name.

        Raises:
            ControlError: If the silo was not registered.
        """
        self._make_readable()
        self.control().unregister(name)
        self.register()
        forget_replaced(self.folder, name)
        if name in self.here:
            self.compose("restart", f"{name}-node")

    def run(
        self,
        on_event: OnEvent,
        changed: Mapping[str, Any] | None = None,
        begun: Callable[[Path], None] | None = None,
    ) -> Path:
        """Submits one run of the rendered package, follows it to its end and copies its folder.

        See `attempts.to_its_end`.
        """
        must_be_trusted(self.federation, self.folder)
        return to_its_end(self, self.control(), on_event, changed, begun)

    app = "/app"
    """See `attempts.Place`."""

    def inode(self, name: str) -> int:
        """See `attempts.Place`."""
        done = self._compose("exec", "-T", "server-app", "stat", "-c", "%i", f"/runs/{name}/{EVENTS}")
        return int(done.stdout.strip() or 0) if done.returncode == 0 else 0

    def numbers(self) -> list[str]:
        """The numbers of the runs that the server's volume holds, the one that wrote last before the others.

        Raises:
            RunFailed: If the server's container does not answer.
        """
        done = self._compose("exec", "-T", "server-app", "ls", "-t", "/runs")
        if done.returncode:
            raise RunFailed(f"the runs cannot be listed; is the federation up? {last_sentence(done.stderr)}")
        return [name.removeprefix("run-") for name in done.stdout.split() if name.startswith("run-")]

    @contextmanager
    def following(
        self, number: str, name: str, scratch: Path, before: int = 0
    ) -> Iterator[tuple[Path, Iterator[Event]]]:
        """See `attempts.Place`; the folder is `scratch`, and what it has of an earlier run is replaced."""
        for one in (EVENTS, SETTINGS):
            (scratch / one).unlink(missing_ok=True)
        with (scratch / EVENTS).open("wb") as copy:
            # An exec outlives the client that asked for it: this one ends when its input does.
            script = (
                f'(while [ "$(stat -c %i "$0" 2>/dev/null)" = {before} ]; do sleep 1; done; exec tail -n +1 -F "$0") & '
                "cat >/dev/null; kill $!"
            )
            command = [*self._command(), "exec", "-T", "server-app", "sh", "-c", script, f"/runs/{name}/{EVENTS}"]
            with subprocess.Popen(
                command, env=self._environment(), stdin=subprocess.PIPE, stdout=copy, stderr=subprocess.DEVNULL
            ):  # leaving this closes its input
                yield scratch, self._events(number, name, scratch)

    def _events(self, number: str, name: str, copy: Path) -> Iterator[Event]:
        """The events that come into the copy of a run folder; its settings are there before the first is given."""
        control, newest = self.control(), time.monotonic()

        def is_over() -> bool:
            # Each look starts a flwr, seconds of a core that the silos may need: only after a silence.
            return time.monotonic() - newest > _SILENCE and control.is_over(number)

        settings = copy / SETTINGS
        for event in follow(copy, is_over, _BEGIN):
            newest = time.monotonic()
            if not settings.exists():
                said = self._compose("exec", "-T", "server-app", "cat", f"/runs/{name}/{SETTINGS}")
                settings.write_text(said.stdout if said.returncode == 0 else "{}")
            yield event

    def fetched(self, name: str) -> Path:
        """See `attempts.Place`: it is copied out of the server's volume."""
        folder = self.runs / name
        self.runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        self.copy_out("server-app", f"/runs/{name}", folder)
        return folder

    def has_checkpoints(self, name: str) -> bool:
        """See `attempts.Place`."""
        return self._compose("exec", "-T", "server-app", "test", "-d", f"/runs/{name}/{CHECKPOINTS}").returncode == 0

    def unfinished(self) -> str:
        """The name of the newest run's folder if its server ended before it did, else ""."""
        command = ["exec", "-T", "server-app", "python", "-m", "fedlaw_flwr.deploy.unfinished", "/runs"]
        return self.compose(*command).stdout.strip()

    def prune(self, days: int) -> list[str]:
        """Removes run folders whose last event is older, the server's and the copies here; returns what was removed."""
        inside = self.compose(
            "exec", "-T", "server-app", "python", "-m", "fedlaw_flwr.deploy.retention", "/runs", str(days)
        ).stdout.split()
        return [*map(str, prune(self.runs, days)), *(f"server-app:{path}" for path in inside)]

    def order(self, what: str, silo: str) -> None:
        """Tells the run that goes on at the server to pardon or to remove a silo.

        Args:
            what: "pardon" or "remove".
            silo: The silo's name.

        Raises:
            InputError: If the federation has no such silo.
            RunFailed: If no run goes on, with what the server said.
        """
        self.federation.named(silo)
        self.compose("exec", "-T", "server-app", "python", "-m", "fedlaw_flwr.events.orders", "/runs", what, silo)

    def copy_out(self, service: str, path: str, target: Path) -> None:
        """Copies a file or folder out of a service's container."""
        container = self.compose("ps", "-q", service).stdout.strip()
        done = subprocess.run(
            ["docker", "cp", f"{container}:{path}", str(target)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RunFailed(f"{path} could not be copied out of {service}: {done.stderr.strip()}")

    def pour(self, service: str, command: str, source: Path) -> None:
        """Runs a shell command in a container of this service made for it alone, the file as its input."""
        with source.open("rb") as content:
            done = subprocess.run(
                [*self._command(), "run", "--rm", "--no-deps", "-T", service, "sh", "-c", command],
                env=self._environment(),
                stdin=content,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise RunFailed(f"{command} in {service}: {done.stderr.strip() or done.stdout.strip()}")

    def last_words(self, number: str) -> str:
        """See `attempts.Place`: the last lines of the run's own log that say something."""
        done = self._compose("exec", "-T", "server-app", "flwr", "log", number, "federation", "--show")
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        ends = [index for index, line in enumerate(lines) if "Exit Code" in line]
        return "\n".join(lines[: ends[0]][-6:] if ends else lines[-6:])

    def down(self, volumes: bool = False) -> None:
        """Takes the containers and networks away; with `volumes`, the SuperLink's database and run folders too."""
        self.compose("down", "--remove-orphans", *(["--volumes"] if volumes else []))
        if volumes:
            self.registered.unlink(missing_ok=True)

    def control(self) -> Control:
        """The operator's commands, inside the server-app container."""
        command = [*self._command(), "exec", "-T", "server-app", "flwr"]
        return Control(command, "federation", self.registered, self._environment())

    def compose(self, *arguments: str, said: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Runs one command of docker-compose on this federation.

        Raises:
            RunFailed: If it fails, with its last words.
        """
        done = self._compose(*arguments, said=said)
        if done.returncode:
            words = last_sentence(done.stderr or done.stdout) or str(done.returncode)
            port = self.federation.superlink.port
            taken = "port is already allocated" in words or "address already in use" in words
            holder = holder_of(port) if taken and str(port) in words else ""
            who = f"; port {port}, the server's, is held by {holder}" if holder else ""
            raise RunFailed(f"docker-compose {' '.join(arguments[:3])}: {words}{who}")
        return done

    def _compose(self, *arguments: str, said: str | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self._command(), *arguments],
            env=self._environment(),
            input=said if said is not None else "",
            capture_output=True,
            text=True,
            check=False,
        )

    def _command(self) -> list[str]:
        return [*compose_command(), "--file", str(self.folder.path / "compose.yml"), "--project-name", self.project]

    def _environment(self) -> dict[str, str]:
        return {"FEDLAW_USER": self._user(), **os.environ}

    def _user(self) -> str:
        """Who the containers run as: the owner of the keys; where that is root, a number of their own."""
        return f"{os.getuid()}:{os.getgid()}" if os.getuid() else f"{USER}:{USER}"

    def _make_readable(self) -> None:
        """Lets the containers read what is mounted into them, and notes for compose by hand who they run as."""
        path = self.folder.path
        write_rendered(path / ".env", f"COMPOSE_PROJECT_NAME={self.project}\nFEDLAW_USER={self._user()}\n")
        keys = [self.folder.server_key, *map(self.folder.private_key, self.here)]
        if os.getuid() == 0:
            for key in keys:
                os.chown(key, USER, USER)
        for folder in (self.folder.package, *(place for place in self.folder.package.rglob("*") if place.is_dir())):
            folder.chmod(0o755)


def compose_command() -> list[str]:
    """The command of Docker Compose: `docker compose` where that is installed, else `docker-compose`.

    Raises:
        InputError: If neither is installed.
    """
    if shutil.which("docker"):
        version = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if version.returncode == 0:
            return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise InputError("neither `docker compose` nor docker-compose is installed: it comes with Docker's engine")


def engine() -> str:
    """The version of the Docker engine.

    Raises:
        InputError: If no engine answers, with what was said.
    """
    if not shutil.which("docker"):
        raise InputError("no `docker` here: containers need a Docker engine; `fedlaw deploy local` does without")
    done = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InputError(f"no Docker engine answers: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()
