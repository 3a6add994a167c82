"""The server's signature on a checkpoint: Ed25519, with a key that only the server has."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fedlaw_flwr.core.errors import InputError, NotThere
from fedlaw_flwr.core.extras import naming_the_extra

SERVER_KEY = "FEDLAW_SERVER_KEY"
"""The environment variable that names the file of the server's Ed25519 key, PEM without a password."""


class Signer(Protocol):
    """Whatever signs checkpoints."""

    @property
    def public(self) -> str:
        """Its public half, 64 hexadecimal digits."""
        ...

    def sign(self, content: bytes) -> str:
        """Its signature of this content, hexadecimal."""
        ...


@dataclass(frozen=True)
class ServerKey:
    """The server's Ed25519 key.

    Attributes:
        public: The public key, 64 hexadecimal digits.
    """

    public: str
    _private: Any

    @classmethod
    def read(cls, path: Path) -> "ServerKey":
        """The key in this file.

        Raises:
            NotThere: If there is no such file.
            InputError: If it holds no Ed25519 key in PEM, or one with a password.
            ModuleNotFoundError: If cryptography is not installed.
        """
        with naming_the_extra():
            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.hazmat.primitives import serialization
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        if not path.is_file():
            raise NotThere(f"{path}: there is no such file; {SERVER_KEY} names the server's Ed25519 key")
        try:
            private = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InputError(f"{path}: an Ed25519 key in PEM without a password is expected: {error}") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise InputError(f"{path}: an Ed25519 key is expected; `openssl genpkey -algorithm ed25519` makes one")
        return cls(private.public_key().public_bytes_raw().hex(), private)

    @classmethod
    def from_environment(cls) -> "ServerKey | None":
        """The key in the file that FEDLAW_SERVER_KEY names; None where it names none."""
        named = os.environ.get(SERVER_KEY, "")
        return cls.read(Path(named)) if named else None

    def sign(self, content: bytes) -> str:
        """The signature of this content, hexadecimal."""
        return bytes(self._private.sign(content)).hex()


def is_signed_by(public: str, signature: str, content: bytes) -> bool:
    """Whether this signature of this content is that of the key with this public half, both hexadecimal."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):
        return False
    return True
