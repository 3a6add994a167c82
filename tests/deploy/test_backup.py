"""A backup of a running server, and what comes back of it: the database as of one moment, keys, registrations, runs."""

import shutil
import sqlite3
import stat
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedlaw_flwr.cli.main import app
from fedlaw_flwr.deploy.backup import copy_database, read_backup, write_backup
from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.folder import FederationFolder
from fedlaw_flwr.deploy.local import LocalFederation
from fedlaw_flwr.deploy.preparation import init, render
from fedlaw_flwr.events.folder import read_events

TEXT = "name: clinics\nsuperlink: {host: localhost}\nrun: {max-byzantine: 0}\nsilos: [{name: aachen}, {name: bonn}]\n"


@pytest.fixture
def file(tmp_path):
    (tmp_path / "federation.yaml").write_text(TEXT)
    return tmp_path / "federation.yaml"


def federation_of(file: Path) -> LocalFederation:
    federation = Federation.read(file)
    return LocalFederation(federation, FederationFolder.beside(file, federation.name))


@pytest.fixture
def been_up(file):
    """A federation that has been up, its database in use: one row committed, which the -wal alone has, and one not."""
    local = federation_of(file)
    init(local.federation, local.folder, drill=True)
    render(local.federation, local.folder)
    for name, content in {
        "local/registered.json": '{"aachen": "100"}',
        "local/state/aachen/run-1.state": "kept",
        "local/state/aachen/run-2.state.unfinished": "half",
        "local/homes/superlink/superexec.secret": "secret",
        "runs/run-1/events.jsonl": '{"kind": "end", "status": "completed"}\n',
        "silos/bonn/policy.yaml": "exchanges-per-day: 7\n",
    }.items():
        path = local.folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    with closing(sqlite3.connect(local.parts()["superlink.db"], isolation_level=None)) as superlink:
        superlink.execute("PRAGMA journal_mode = WAL")
        superlink.execute("PRAGMA wal_autocheckpoint = 0")
        superlink.execute("CREATE TABLE node (name TEXT)")
        superlink.execute("INSERT INTO node VALUES ('committed')")
        superlink.execute("BEGIN")
        superlink.execute("INSERT INTO node VALUES ('not committed')")
        yield local


def nodes(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM node")]


def test_a_database_in_use_is_copied_with_what_was_committed_and_nothing_else(been_up, tmp_path):
    database = been_up.parts()["superlink.db"]
    copy_database(database, tmp_path / "copy.db")
    assert nodes(tmp_path / "copy.db") == ["committed"]
    shutil.copy(database, tmp_path / "file.db")  # what a copy of the file would have been worth
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        nodes(tmp_path / "file.db")


def test_a_backup_put_back_is_the_federation_as_it_was(been_up, file, tmp_path):
    before = {
        path.relative_to(been_up.folder.path): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in been_up.folder.path.rglob("*")
        if path.is_file() and not path.name.startswith("superlink.db")
    }
    out = tmp_path / "backup.tar.gz"
    assert CliRunner().invoke(app, ["deploy", "backup", str(file), str(out)]).exit_code == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    been_up.folder.path.rename(tmp_path / "lost")
    told = CliRunner().invoke(app, ["deploy", "restore", str(file), str(out)])
    assert told.exit_code == 0, told.output

    again = federation_of(file)
    assert nodes(again.parts()["superlink.db"]) == ["committed"]
    after = {
        path.relative_to(again.folder.path): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in again.folder.path.rglob("*")
        if path.is_file() and path.name != "superlink.db"
    }
    gone = {str(path) for path in before.keys() - after.keys()}
    assert gone == {"local/state/aachen/run-2.state.unfinished", "local/homes/superlink/superexec.secret"}
    assert after == {path: before[path] for path in after}
    assert [event.status for event in read_events(again.runs / "run-1")] == ["completed"]


def test_nothing_that_is_there_is_overwritten_and_what_is_equal_is_left_alone(been_up, file, tmp_path):
    out = tmp_path / "backup.tar.gz"
    write_backup(out, file, been_up.parts())
    with pytest.raises(FileExistsError):
        write_backup(out, file, been_up.parts())
    shutil.rmtree(been_up.path)
    been_up.folder.server_key.write_text("another")
    with pytest.raises(FileExistsError, match=r"server\.key is there and differs: move it away first"):
        read_backup(out, been_up.parts())
    assert not been_up.path.exists()
    been_up.folder.server_key.unlink()
    written = read_backup(out, been_up.parts())
    assert been_up.folder.server_key in written and been_up.folder.server_certificate not in written
    assert read_backup(out, been_up.parts()) == []


def test_the_rest_of_another_database_is_in_the_way_of_a_backup(been_up, file, tmp_path):
    out = tmp_path / "backup.tar.gz"
    write_backup(out, file, been_up.parts())
    other = been_up.parts() | {"superlink.db": tmp_path / "other" / "superlink.db"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "superlink.db-wal").write_bytes(b"")
    with pytest.raises(FileExistsError, match="of another database"):
        read_backup(out, other)


def test_a_federation_that_was_never_up_has_nothing_to_back_up(file, tmp_path):
    with pytest.raises(ValueError, match="has never been up"):
        write_backup(tmp_path / "out.tar.gz", file, federation_of(file).parts())
    assert not (tmp_path / "out.tar.gz").exists()


def test_what_is_no_backup_is_said_in_a_sentence(file, tmp_path):
    parts = federation_of(file).parts()
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(ValueError, match="is no backup of a federation"):
        read_backup(tmp_path / "text", parts)
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.add(file, "federation.yaml")
    with pytest.raises(ValueError, match=r"there is no superlink\.db in it"):
        read_backup(tmp_path / "other.tar.gz", parts)
    (tmp_path / "superlink.db").write_bytes(b"SQLite format 3\0" + bytes(4000))
    with tarfile.open(tmp_path / "damaged.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "superlink.db", "superlink.db")
    with pytest.raises(ValueError, match="the database in the backup is damaged"):
        read_backup(tmp_path / "damaged.tar.gz", parts)


def test_an_archive_cannot_write_outside_the_federation(file, tmp_path):
    with tarfile.open(tmp_path / "hostile.tar.gz", "w:gz") as archive:
        archive.add(file, "silos/../../../escaped")
    with pytest.raises(ValueError, match="is no backup of a federation"):
        read_backup(tmp_path / "hostile.tar.gz", federation_of(file).parts())
    assert not list(tmp_path.rglob("escaped"))
