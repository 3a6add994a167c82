"""The server's Ed25519 key: made once, kept in a file that only its owner may read, known to all by its public half.

It signs the heads of a run's ledger, and checkpoints.
"""

import base64
import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedlaw_flwr.core.errors import InputError, NotThere

SERVER_KEY = "FEDLAW_SERVER_KEY"
"""The environment variable that names the file of the server's key, where the setting `server-key` names none."""


class ServerKey:
    """The key with which a server signs.

    Args:
        private: The private key.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def load(cls, path: Path) -> "ServerKey":
        """The key in this file; a new one, readable by its owner alone, where there is no file yet.

        Args:
            path: A PEM file (PKCS 8) without a passphrase.

        Raises:
            InputError: If the file holds no such key.
        """
        if not path.exists():
            _make(path)
        return cls.read(path)

    @classmethod
    def of(cls, named: str) -> "ServerKey | None":
        """The key of a server that has one of its own, for all of its runs.

        Args:
            named: Its file, made where there is none yet; "": the one that FEDLAW_SERVER_KEY names, if any.

        Returns:
            The key; None where neither names one.

        Raises:
            UserError: If the file that is named holds no such key.
        """
        if named:
            return cls.load(Path(named).expanduser())
        file = os.environ.get(SERVER_KEY, "")
        return cls.read(Path(file)) if file else None

    @classmethod
    def read(cls, path: Path) -> "ServerKey":
        """The key in this file.

        Raises:
            NotThere: If there is no such file.
            InputError: If it holds no such key.
        """
        if not path.is_file():
            raise NotThere(f"{path}: there is no such file; it is named as the server's Ed25519 key")
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # the last two: it has a passphrase
            raise InputError(f"{path} is no private key in PEM without a passphrase: {error}") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError(f"{path}: an Ed25519 key is expected, as `openssl genpkey -algorithm ed25519` makes it")
        return cls(key)

    @classmethod
    def fresh(cls) -> "ServerKey":
        """A new key that is in no file."""
        return cls(Ed25519PrivateKey.generate())

    @property
    def public(self) -> str:
        """The public half, 64 hexadecimal digits."""
        raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
        return self._private.public_key().public_bytes(*raw).hex()

    def sign(self, content: bytes) -> str:
        """The signature of these bytes, 128 hexadecimal digits (Ed25519, RFC 8032)."""
        return self._private.sign(content).hex()


def is_signed_by(public: str, signature: str, content: bytes) -> bool:
    """Whether the signature of these bytes is that of the key with this public half, both as hexadecimal digits."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), content)
    except (ValueError, InvalidSignature):
        return False
    return True


def fingerprint(public: str) -> str:
    """A public half in short, to be compared over another channel: SHA256 and 43 characters, as ssh-keygen writes it.

    Args:
        public: The public half, 64 hexadecimal digits.
    """
    digest = hashlib.sha256(bytes.fromhex(public)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def is_fingerprint(text: str) -> bool:
    """Whether a text is written as `fingerprint` writes it: SHA256: and 43 characters of base64."""
    return re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", text) is not None


def _make(path: Path) -> None:
    """Writes a new key, whole or not at all; of two servers that make one at the same time, both use the first."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(unfinished, path)  # unlike a rename, never in place of another's
    finally:
        unfinished.unlink()
