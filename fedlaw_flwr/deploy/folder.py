"""The federation's folder: where every certificate, key and rendered file of one federation lies on a machine."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class FederationFolder:
    """Paths under one folder. `private` writes keep others out and never overwrite what exists.

    Attributes:
        path: The folder.
        file: The YAML file that describes the federation, for the commands that sentences name.
    """

    path: Path
    file: Path = field(default=Path("federation.yaml"), compare=False)

    @classmethod
    def beside(cls, federation_yaml: Path, name: str) -> "FederationFolder":
        """The folder of this federation: beside its YAML file, with its name."""
        return cls((federation_yaml.parent / name).resolve(), federation_yaml)

    @property
    def ca_certificate(self) -> Path:
        """The certificate authority's certificate: what every silo trusts."""
        return self.path / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """The authority's private key: needed to renew the server's certificate, and for nothing else."""
        return self.path / "ca.key"

    @property
    def server_certificate(self) -> Path:
        """The server's certificate."""
        return self.path / "server.crt"

    @property
    def server_key(self) -> Path:
        """The server's private key."""
        return self.path / "server.key"

    @property
    def package(self) -> Path:
        """The Flower app a run ships."""
        return self.path / "app"

    def silo(self, name: str) -> Path:
        """The folder of one silo's files."""
        return self.path / "silos" / name

    def public_key(self, name: str) -> Path:
        """The silo's public key, as `fedlaw join` made it and its operator sent it."""
        return self.silo(name) / "node.pub"

    def private_key(self, name: str) -> Path:
        """The silo's private key: here only in a drill, where one machine plays every part."""
        return self.silo(name) / "node.key"

    def here(self, names: Iterable[str]) -> list[str]:
        """Those of these silos whose private key is in this folder: in a drill all, in a real federation none."""
        return [name for name in names if self.private_key(name).exists()]

    def replaced(self, name: str) -> list[Path]:
        """The silo's keys that `fedlaw deploy rotate` has replaced and that no `reregister` has deleted yet."""
        return sorted(path for kind in ("pub", "key") for path in self.silo(name).glob(f"node.{kind}.until-*"))


def make_folder(path: Path) -> None:
    """A folder that only its owner may enter (0700), and every missing one above it alike; one that exists stays."""
    for place in reversed([path, *path.parents]):
        if not place.exists():
            place.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Writes a new file that only its owner may read (0600), whole on disk.

    Raises:
        FileExistsError: If the file exists; it is never overwritten.
    """
    make_folder(path.parent)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_new(path: Path, content: bytes) -> None:
    """Writes a new file that all may read.

    Raises:
        FileExistsError: If the file exists; it is never overwritten.
    """
    make_folder(path.parent)
    with path.open("xb") as file:
        file.write(content)
    path.chmod(0o644)


def write_rendered(path: Path, content: str) -> bool:
    """Writes a file that is made anew from federation.yaml each time.

    Returns:
        Whether that changed the file.
    """
    if path.exists() and path.read_text(encoding="utf-8") == content:
        return False
    make_folder(path.parent)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(path)
    return True
