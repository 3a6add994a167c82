"""The digest of a package: what it depends on, what it refuses, and that a silo knows its own without being told."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fedlaw_flwr.cli.main import app
from fedlaw_flwr.deploy.package import render_package
from fedlaw_flwr.silo import packages
from fedlaw_flwr.silo.packages import digest, digest_of, own_digest

ENTRIES = {"pyproject.toml": b"[project]\n", "app/client.py": b"app = 1\n", "app/empty.py": b""}


def packed(
    entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED, date: tuple[int, ...] = (1980, 1, 1, 0, 0, 0)
) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name, date), content, method)
    return made.getvalue()


def test_it_is_sha256_over_names_and_sha256s_in_the_order_of_the_names():
    by_hand = b"".join(name.encode() + b"\0" + hashlib.sha256(ENTRIES[name]).digest() for name in sorted(ENTRIES))
    assert digest(packed(list(ENTRIES.items()))) == hashlib.sha256(by_hand).hexdigest()


def test_order_time_and_compression_do_not_matter():
    one = packed(list(ENTRIES.items()))
    other = packed(list(reversed(ENTRIES.items())), zipfile.ZIP_DEFLATED, (2026, 7, 1, 12, 0, 0))
    assert one != other and digest(one) == digest(other)


contents = st.dictionaries(st.text("ab/.", min_size=1, max_size=4), st.binary(max_size=3), min_size=1, max_size=4)


@given(contents, contents)
def test_any_other_name_or_byte_is_another_digest(one, other):
    same = digest(packed(list(one.items()))) == digest(packed(list(other.items())))
    assert same == (one == other)


def test_a_byte_moved_from_a_name_to_its_content_is_another_digest():
    assert digest(packed([("ab", b"c")])) != digest(packed([("a", b"bc")]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_said_twice_is_refused():
    twice = packed([("client.py", b"good"), ("client.py", b"bad")])
    with pytest.raises(ValueError, match=r"the package has two entries 'client\.py'"):
        digest(twice)


def test_what_unpacks_to_too_much_is_refused_without_being_held(monkeypatch):
    monkeypatch.setattr(packages, "LARGEST", 4 * 2**20)
    bomb = packed([("a", bytes(3 * 2**20)), ("b", bytes(3 * 2**20))], zipfile.ZIP_DEFLATED)
    assert len(bomb) < 10_000
    with pytest.raises(ValueError, match="unpacks to more than 4194304 bytes"):
        digest(bomb)


def test_junk_and_a_damaged_archive_are_refused_in_one_sentence():
    whole = packed([("client.py", b"x" * 1000)], zipfile.ZIP_DEFLATED)
    damaged = whole[:40] + b"\xff\xff\xff\xff" + whole[44:]
    for junk in (b"", b"PK\x03\x04", b"no archive at all", whole[: len(whole) // 2], damaged):
        with pytest.raises(ValueError, match=r"^the package cannot be read \(\w+\)$"):
            digest(junk)


def test_a_silo_knows_the_digest_of_what_flower_builds_from_the_rendered_package(tmp_path):
    render_package(tmp_path / "app")
    assert own_digest() == digest(build_fab_from_disk(tmp_path / "app")) == digest_of(tmp_path / "app")


def test_the_command_tells_the_digest_of_a_folder_a_file_and_our_own(tmp_path: Path):
    render_package(tmp_path / "app")
    (tmp_path / "app.fab").write_bytes(build_fab_from_disk(tmp_path / "app"))
    asked = [[], [str(tmp_path / "app")], [str(tmp_path / "app.fab")]]
    told = [CliRunner().invoke(app, ["deploy", "package-digest", *what]).output for what in asked]
    assert told == [f"{own_digest()}\n"] * 3
    with (tmp_path / "app" / "fedlaw_deployed" / "client.py").open("a") as file:
        file.write("\n")
    assert digest_of(tmp_path / "app") != own_digest()
