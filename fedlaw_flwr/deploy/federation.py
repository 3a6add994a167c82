"""federation.yaml: who takes part, where the server is, what is run; checked whole before anything is made of it."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from fedlaw_flwr.attacks import ATTACKS
from fedlaw_flwr.attacks.options import MISLABELLED
from fedlaw_flwr.config.document import FROM_FILE, Document, DocumentError, Place
from fedlaw_flwr.config.settings import Settings, SettingsError
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.flower import installed, release_of
from fedlaw_flwr.deploy.hostname import host
from fedlaw_flwr.records.task import SILO_TASKS, is_silo_task
from fedlaw_flwr.silo.config import Name, SiloConfig
from fedlaw_flwr.tasks import OWN, TASKS

# What the run configuration may not say: the federation itself says it, or it is a simulation's.
_NOT_IN_RUN = {
    "num-silos": "it is the number of silos below",
    "attack": "a run configuration never makes a real silo attack; name the attack at the silo, for a drill",
    "byzantine": "it says who attacks in a simulation; see max-byzantine for what the server should withstand",
    "byzantine-chosen": "it says who attacks in a simulation",
    "drills": "it is made from the silos below",
    "run-dir": "the server keeps its run folders in a place of its own",
    "server-key": "the server keeps its key in a place of its own",
}


_ONE_RUN = dict.fromkeys(
    ("resume", "resume-changed"), "it is about one run; `fedlaw deploy run FEDERATION.YAML resume=RUN` resumes it"
)
"""What is said of one run, and never of all."""


Host = Annotated[str, AfterValidator(host)]
"""A DNS name or an IP address, without a port, as a certificate spells it."""


class SuperLink(BaseModel):
    """Where silos reach the server: one host and port, with every other name the certificate must hold."""

    model_config = FROM_FILE

    host: Host
    port: Annotated[int, Field(ge=1, le=65535)] = 9443
    also_known_as: list[Host] = []


class Silo(BaseModel):
    """One institution as the federation knows it. What it computes on is in its own silo.yaml; this is its start.

    Attributes:
        mislabelled: Whether a rehearsal gave its records wrong classes. Only the verdict reads this.
    """

    model_config = FROM_FILE

    name: Name
    task: str = ""
    data_path: str = ""
    client: Annotated[str, Field(pattern=r"^([\w.]+:\w+)?$")] = ""
    partition_id: Annotated[int | None, Field(ge=0)] = None
    device: str = "cpu"
    cpus: Annotated[float, Field(gt=0)] = 1.0
    memory: Annotated[str, Field(pattern=r"^[1-9]\d*[mg]$")] = "2g"
    attack: str = ""
    mislabelled: bool = False
    options: dict[str, str | int | float | bool] = {}


class Images(BaseModel):
    """The names of the images of server and silo; the proxy's and a drill's are these with `-proxy` and `-drill`."""

    model_config = FROM_FILE

    server: str = "fedlaw-server"
    silo: str = "fedlaw-silo"


class Federation(BaseModel):
    """The whole file. `run` holds settings of docs/reference/settings.md; those of a simulation alone are refused."""

    model_config = FROM_FILE

    name: Name
    superlink: SuperLink
    run: dict[str, Any] = {}
    silos: Annotated[list[Silo], Field(min_length=2)]
    images: Images = Images()
    retention_days: Annotated[int, Field(ge=1)] = 90

    @classmethod
    def read(cls, path: Path) -> "Federation":
        """Reads and checks the file.

        Raises:
            DocumentError: With `FILE:LINE: what is wrong` for all that is wrong.
        """
        document = Document.read(path)
        run = document.data.get("run") if isinstance(document.data, dict) else None
        if isinstance(run, dict) and run.get("initial-model"):  # beside this file, wherever the command is given
            run["initial-model"] = str((path.parent / str(run["initial-model"])).resolve())
        federation = document.check(cls)
        wrong = [document.wrong(place, what) for place, what in federation._contradictions()]
        if wrong:
            raise DocumentError("\n".join(wrong))
        return federation

    @property
    def drills(self) -> dict[str, str]:
        """The silos that attack on purpose, and how."""
        return {silo.name: silo.attack for silo in self.silos if silo.attack}

    @property
    def names(self) -> list[str]:
        """Every name the server's certificate must hold: outside, inside the compose file, and on this machine."""
        fixed = ["proxy", "superlink", "localhost", "127.0.0.1"]
        return list(dict.fromkeys([self.superlink.host, *self.superlink.also_known_as, *fixed]))

    def named(self, name: str) -> Silo:
        """The silo of this name.

        Raises:
            InputError: If there is none.
        """
        for silo in self.silos:
            if silo.name == name:
                return silo
        raise InputError(f"silo {name!r}: federation.yaml names {', '.join(silo.name for silo in self.silos)}")

    def changed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """These settings, for one run alone, after a look at them.

        Raises:
            SettingsError: As for the same settings in federation.yaml.
        """
        for key, why in _NOT_IN_RUN.items():
            if key in values:
                raise SettingsError(f"{key} cannot be set: {why}")
        self.settings(values)
        return dict(values)

    def settings(self, changed: Mapping[str, Any] | None = None) -> Settings:
        """The run's settings as the server will read them.

        Args:
            changed: Settings by name that differ from federation.yaml, for one run.

        Raises:
            SettingsError: For settings that are wrong or do not hold together.
        """
        return Settings.read(
            {**self.run, **(changed or {}), "num-silos": len(self.silos), "drills": self._drills_setting()}
        )

    def silo_config(self, name: str, **local: Any) -> SiloConfig:
        """What silo.yaml of this silo says at first.

        Args:
            name: The silo's name.
            **local: The paths of the silo's process.

        Raises:
            KeyError: If there is no such silo.
        """
        for index, silo in enumerate(self.silos):
            if silo.name == name:
                settings = self.settings()
                return SiloConfig(
                    name=name,
                    client=silo.client,
                    task=silo.task or settings.task,
                    data_path=silo.data_path,
                    device=silo.device,
                    partition_id=index if silo.partition_id is None else silo.partition_id,
                    num_partitions=len(self.silos),
                    partition=settings.partition,
                    q=settings.q,
                    concentration=settings.concentration,
                    seed=settings.seed,
                    attack=silo.attack,
                    options=silo.options,
                    flwr=release_of(installed()),
                    **local,
                )
        raise KeyError(name)

    def _drills_setting(self) -> str:
        rehearsed = {silo.name: MISLABELLED for silo in self.silos if silo.mislabelled}
        return ",".join(f"{name}:{attack}" for name, attack in {**rehearsed, **self.drills}.items())

    def _contradictions(self) -> list[tuple[Place, str]]:
        """What is wrong between values that are each well-formed."""
        found: list[tuple[Place, str]] = []
        names = Counter(silo.name for silo in self.silos)
        for index, silo in enumerate(self.silos):
            if names[silo.name] > 1:
                found.append(
                    (("silos", index, "name"), f"{silo.name} names {names[silo.name]} silos; names are unique")
                )
            found += [(("silos", index, key), what) for key, what in self._what_it_learns(silo)]
            if silo.attack and silo.attack not in ATTACKS:
                found.append((("silos", index, "attack"), f"attack={silo.attack!r}: allowed are {', '.join(ATTACKS)}"))
            if silo.partition_id is not None and silo.partition_id >= len(self.silos):
                what = f"partition-id={silo.partition_id}: there are partitions 0 to {len(self.silos) - 1}"
                found.append((("silos", index, "partition-id"), what))
        for key, why in {**_NOT_IN_RUN, **_ONE_RUN}.items():
            if key in self.run:
                found.append((("run", key), f"run.{key} cannot be set: {why}"))
        if not found:
            try:
                self.settings()
            except SettingsError as error:
                found += [(_blamed(line, self.run), f"run: {line}") for line in str(error).splitlines()]
        return found

    def _what_it_learns(self, silo: Silo) -> list[tuple[str, str]]:
        """What is wrong with a silo's task, with the key that says it."""
        if silo.client:
            return []
        task = silo.task or str(self.run.get("task", ""))
        if silo.task and silo.task not in TASKS and not is_silo_task(silo.task):
            allowed = ", ".join([*TASKS, *SILO_TASKS])
            return [("task", f"task={silo.task!r}: allowed are {allowed} or a module, package.task:name")]
        if task == OWN:
            return [("name", f"{silo.name} names no task: with run.task own each silo names its own, or a client")]
        if (self.run.get("task") == OWN) != is_silo_task(task):
            return [("task", f"task={task!r}: data of a silo's own needs run.task own, and run.task own such data")]
        if silo.attack and is_silo_task(task):
            return [("attack", f"attack={silo.attack!r}: a drill needs a public data set, {task!r} is the silo's own")]
        return []


def _blamed(sentence: str, run: Mapping[str, Any]) -> Place:
    """The run setting a sentence of Settings is about: the one it begins with, else the first it names."""
    named = [key for key in run if sentence.startswith((f"{key}=", f"{key}:"))] or [
        k for k in run if f"{k}=" in sentence or (k == "strategy" and sentence.startswith(f"{run[k]} "))
    ]
    return ("run", named[0]) if named else ("run",)
