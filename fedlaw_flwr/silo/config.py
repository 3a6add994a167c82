"""silo.yaml: what an institution decides about its own silo, and nobody else can: client, task, data, limits."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from fedlaw_flwr.apps.shipped.client import LONGEST_SOCKET, SOCKET
from fedlaw_flwr.config.document import FROM_FILE, Document
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.flower import installed, release_of
from fedlaw_flwr.ledger.keys import is_fingerprint
from fedlaw_flwr.records.task import is_silo_task


def _a_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", value):
        raise InputError("lower-case letters, digits and hyphens are allowed, 40 at most, no hyphen first")
    return value


def check_socket(path: str) -> str:
    """The path where a silo's own process listens.

    Raises:
        InputError: For a path that no Unix socket may have.
    """
    if (length := len(os.fsencode(path))) > LONGEST_SOCKET:
        raise InputError(
            f"the path of the silo's socket has {length} bytes, and a Unix socket's may have {LONGEST_SOCKET}: {path}; "
            "name a shorter one (socket in silo.yaml, --socket on the command line)"
        )
    if not path or path.endswith("/") or (Path(path).exists() and not Path(path).is_socket()):
        raise InputError(f"{path or 'nothing'!r} is no place for the silo's socket, which needs a path of its own")
    return path


Name = Annotated[str, AfterValidator(_a_name)]
"""A silo's or a federation's name: it becomes a file name, a container's name and a label of metrics."""

POLICY = "policy.yaml"
"""Where a silo's policy lies, beside its silo.yaml."""

HONEST, OWN_DATA, DRILL = (
    "fedlaw_flwr.apps.deployed:app",
    "fedlaw_flwr.apps.own:app",
    "fedlaw_flwr.apps.byzantine.drill:app",
)
"""The clients we ship: for a share of a public data set, for data of the silo's own, and the one that attacks because
its own operator agreed to a drill."""


class SiloConfig(BaseModel):
    """One silo as its own process (`fedlaw silo`) sees it. In the file the names have hyphens: `data-path`."""

    model_config = FROM_FILE

    name: Name
    client: Annotated[str, Field(pattern=r"^([\w.]+:\w+)?$")] = ""
    task: str = "digits"
    data_path: str = ""
    device: str = "cpu"
    # The share of an embedded or public data set, for demonstrations and drills.
    partition_id: Annotated[int, Field(ge=0)] = 0
    num_partitions: Annotated[int, Field(ge=2)] = 2
    partition: str = "iid"
    q: Annotated[float, Field(ge=0, le=1)] = 0.6
    concentration: Annotated[float, Field(gt=0)] = 0.5
    seed: Annotated[int, Field(ge=0)] = 0
    attack: str = ""
    # Which Flower the server runs, its first two numbers: a silo's must agree.
    flwr: Annotated[str, Field(pattern=r"^(\d+\.\d+)?$")] = ""
    # The server's key, by its fingerprint: what is not signed with it is refused.
    server_key: str = ""
    # The process.
    socket: Annotated[str, AfterValidator(check_socket)] = SOCKET
    state: str = "state"
    seconds_per_exchange: Annotated[int, Field(ge=1)] = 3600
    # What may leave and how much may be asked, in a file beside this one; and whose packages may run here beside ours.
    policy: str = ""
    packages: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = []
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)

    @field_validator("server_key")
    @classmethod
    def _a_fingerprint(cls, value: str) -> str:
        if value and not is_fingerprint(value):
            raise InputError(
                "the fingerprint of the server's key is expected, SHA256: and 43 characters, as `fedlaw ledger verify` "
                "and this silo's log print it"
            )
        return value

    @model_validator(mode="after")
    def _hold_together(self) -> "SiloConfig":
        own = {field.replace("_", "-") for field in type(self).model_fields}
        if twice := sorted(own & set(self.options)):
            raise InputError(f"options.{twice[0]}: that is a key of silo.yaml itself; write it there, outside options")
        if self.attack and is_silo_task(self.task):
            raise InputError(
                f"attack={self.attack!r}: a drill needs a public data set; task={self.task!r} is the silo's"
            )
        return self

    @classmethod
    def read(cls, path: Path) -> "SiloConfig":
        """Reads silo.yaml; `policy` is looked for beside it.

        Raises:
            DocumentError: `FILE:LINE: what is wrong`.
        """
        config = Document.read(path).check(cls)
        return config.model_copy(update={"policy": str(path.parent / config.policy)}) if config.policy else config

    @property
    def app(self) -> str:
        """The client that answers, `module:name`: the one named, or ours, which attacks only in a drill."""
        return self.client or (DRILL if self.attack else OWN_DATA if is_silo_task(self.task) else HONEST)

    def check_version(self) -> None:
        """Checks that the Flower installed here is of the server's release.

        Raises:
            ValueError: Where it is not.
        """
        here = installed()
        if self.flwr and release_of(here) != self.flwr:
            raise InputError(
                f"flwr {here} is installed here and the server runs {self.flwr}: install flwr {self.flwr}.*"
            )

    def node_config(self) -> dict[str, Any]:
        """What the client finds in `context.node_config`: these settings and `options`, the client's own."""
        hidden = {"socket", "state", "seconds-per-exchange", "client", "options", "flwr", "policy", "packages"}
        hidden |= {"server-key"}
        hidden |= set() if self.attack else {"attack"}
        hidden |= {"partition", "q", "concentration"} if is_silo_task(self.task) else set()
        own = {key: value for key, value in self.model_dump(by_alias=True).items() if key not in hidden}
        return {**own, **self.options}
