"""A federation's server in one archive, and back: its database as of one moment, registrations, keys, run folders."""

import filecmp
import os
import shutil
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from fedlaw_flwr.core.errors import AlreadyThere, InputError
from fedlaw_flwr.deploy.folder import FederationFolder, make_folder

DATABASE, REGISTERED, RUNS, STATE = "superlink.db", "registered.json", "runs", "state"
"""What the parts of a server are called in the archive: two files, and two folders with all that is in them."""

_FEDERATION = "federation.yaml"


def keys_and_certificates(folder: FederationFolder) -> dict[str, Path]:
    """The parts of a backup that lie in the federation's folder however it is run."""
    files = (folder.ca_certificate, folder.ca_key, folder.server_certificate, folder.server_key)
    return {**{path.name: path for path in files}, "silos": folder.path / "silos"}


def copy_database(source: Path, target: Path) -> None:
    """Copies a SQLite database as of one moment, by SQLite's online backup: a SuperLink may go on writing to it.

    A copy of the file alone would lack what still stands in the -wal beside it.

    Args:
        source: The database to copy.
        target: The file that the copy is written to.

    Raises:
        InputError: If `source` does not exist.
    """
    if not source.exists():
        raise InputError(f"{source} is not there: this federation has never been up")
    with (
        closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=rw", uri=True)) as old,
        closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


def write_backup(out: Path, federation_yaml: Path, parts: Mapping[str, Path]) -> int:
    """Writes a federation's server into one archive, a .tar.gz with mode 0600, since there are keys in it.

    Args:
        out: The archive to write.
        federation_yaml: The federation's YAML file, which goes into the archive too.
        parts: Where each part lies, by its name in the archive, DATABASE among them. A part that does not exist is left
            out.

    Returns:
        The number of files in the archive.

    Raises:
        FileExistsError: If `out` exists; it is never overwritten.
        InputError: If there is no database.
    """
    handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file, tempfile.TemporaryDirectory(dir=out.parent) as place:
            copy_database(parts[DATABASE], Path(place) / DATABASE)
            names = _files({**parts, _FEDERATION: federation_yaml, DATABASE: Path(place) / DATABASE})
            with tarfile.open(fileobj=file, mode="w:gz") as archive:
                for name, path in names.items():
                    archive.add(path, name, recursive=False)
    except BaseException:
        out.unlink()
        raise
    return len(names)


def read_backup(archive: Path, parts: Mapping[str, Path]) -> list[Path]:
    """Puts every file of the archive where its part lies, with the mode it had.

    Args:
        archive: An archive that `write_backup` wrote.
        parts: Where each part lies, by its name in the archive. A part that is not named here stays in the archive.

    Returns:
        The files that were not there before.

    Raises:
        AlreadyThere: If a file is there and differs, or if the -wal of another database is there. Nothing is written
            then.
        InputError: If the archive is no backup, or the database in it is damaged.
    """
    with tempfile.TemporaryDirectory() as place:
        try:
            with tarfile.open(archive) as packed:
                packed.extractall(place, filter="data")
        except tarfile.TarError as error:
            raise InputError(f"{archive} is no backup of a federation: {error}") from None
        inside = _files({name: Path(place) / name for name in parts})
        if DATABASE not in inside:
            raise InputError(f"{archive} is no backup of a federation: there is no {DATABASE} in it")
        _check(inside[DATABASE])
        targets = {path: parts[name.partition("/")[0]] / name.partition("/")[2] for name, path in inside.items()}
        new = {path: target for path, target in targets.items() if not _is_there(path, target)}
        if (wal := parts[DATABASE].with_name(f"{DATABASE}-wal")).exists():
            raise AlreadyThere(f"{wal} is there, of another database: move it away; nothing was restored")
        for path, target in new.items():
            make_folder(target.parent)
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            shutil.copyfile(path, target)
            shutil.copymode(path, target)
    return list(new.values())


def _files(parts: Mapping[str, Path]) -> dict[str, Path]:
    """Every file of these parts by its name in the archive; what is still being written is left out."""
    files = {name: path for name, path in parts.items() if path.is_file()}
    for name, path in parts.items():
        inner = (one for one in path.rglob("*") if one.is_file() and one.suffix != ".unfinished")
        files |= {f"{name}/{one.relative_to(path).as_posix()}": one for one in inner}
    return dict(sorted(files.items()))


def _is_there(path: Path, target: Path) -> bool:
    """Whether the target is this file already. Raises FileExistsError where it is another."""
    if not target.exists():
        return False
    if not filecmp.cmp(path, target, shallow=False):
        raise AlreadyThere(f"{target} is there and differs: move it away first; nothing was restored")
    return True


def _check(database: Path) -> None:
    try:
        with closing(sqlite3.connect(database)) as restored:
            (said,) = restored.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.DatabaseError as error:
        said = str(error)
    if said != "ok":
        raise InputError(f"the database in the backup is damaged: {said}")


if __name__ == "__main__":  # DATABASE COPY: a copy as of one moment; so the SuperLink's container is asked
    copy_database(Path(sys.argv[1]), Path(sys.argv[2]))
