"""Digests of Flower App Bundles: what a silo knows a package by, whoever packed it and whenever."""

import hashlib
import io
import re
import zipfile
from itertools import pairwise
from pathlib import Path

from fedlaw_flwr.core.errors import InputError

LARGEST = 64 * 2**20
"""Bytes a bundle may unpack to; Flower itself takes 10 MB packed."""

_PIECE = 2**20


def digest(bundle: bytes) -> str:
    """The digest of a package, which names what is in it and not how it was packed.

    It is the sha256 over (name, 0, sha256(bytes)) of every entry of the zip archive, in the order of the names. When
    and how the archive was packed (order, times, compression) does not matter; a byte or a name does. Nothing is
    unpacked to disk.

    Args:
        bundle: The bytes of the zip archive.

    Returns:
        64 hex digits.

    Raises:
        ValueError: For what is no zip archive, says a name twice or holds more than LARGEST bytes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            entries = sorted(archive.infolist(), key=lambda entry: entry.filename)
            if twice := [a.filename for a, b in pairwise(entries) if a.filename == b.filename]:
                raise InputError(f"the package has two entries {twice[0]!r}")
            total, whole = 0, hashlib.sha256()
            for entry in entries:
                content = hashlib.sha256()
                with archive.open(entry) as file:
                    while piece := file.read(_PIECE):
                        total += len(piece)
                        if total > LARGEST:
                            raise InputError(f"the package unpacks to more than {LARGEST} bytes")
                        content.update(piece)
                whole.update(entry.filename.encode("utf-8", "surrogatepass") + b"\0" + content.digest())
    except ValueError:
        raise
    except Exception as error:  # what a hostile archive makes zipfile raise is of a dozen types
        raise InputError(f"the package cannot be read ({type(error).__name__})") from None
    return whole.hexdigest()


def digest_of(app: Path) -> str:
    """The digest of a .fab file, or of what `flwr build` makes of an app's folder.

    Args:
        app: The file or the folder.

    Raises:
        ValueError: For what `digest` refuses.
        OSError: For a file that cannot be read.
    """
    if not app.is_dir():
        return digest(app.read_bytes())
    from flwr.cli.build import build_fab_from_disk

    return digest(build_fab_from_disk(app))


def own_digest() -> str:
    """The digest of the package that this fedlaw renders: the same for every federation."""
    from flwr.cli.build import build_fab_from_files

    from fedlaw_flwr.apps.shipped.package import package_files

    return digest(build_fab_from_files(package_files())[0])


def is_digest(text: str) -> bool:
    """Whether this is written as a digest is: 64 hexadecimal digits, lower case."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None
