"""Which errors are sentences for people, and that the package raises them by the class that says so."""

import ast
import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import fedlaw_flwr
from fedlaw_flwr.config.document import DocumentError
from fedlaw_flwr.config.settings import SettingsError
from fedlaw_flwr.core.errors import AlreadyThere, InputError, NotThere, UserError, from_their_code, sentence_of

PACKAGE = Path(fedlaw_flwr.__file__).parent
# What a person never calls with values of their own: a wrong call is a mistake of this package's.
MATHEMATICS = {"core/projection.py", "core/clipping.py", *(f"rules/{path.name}" for path in PACKAGE.glob("rules/*.py"))}


@pytest.mark.parametrize("kind", [InputError, DocumentError, SettingsError, NotThere, AlreadyThere])
def test_errors_meant_for_people_pass_as_their_sentence(kind):
    assert sentence_of(kind("seed=-1: it should be greater")) == "seed=-1: it should be greater"


def test_they_are_still_what_callers_in_python_catch():
    assert issubclass(InputError, ValueError) and issubclass(SettingsError, ValueError)
    assert issubclass(NotThere, FileNotFoundError) and issubclass(AlreadyThere, FileExistsError)


@pytest.mark.parametrize(
    "raises",
    [
        lambda: np.zeros(2) + np.zeros(3),
        lambda: int("x"),
        lambda: [].remove(1),
        lambda: b"\xff".decode(),
        lambda: {}["silo"],
        lambda: (Path(np.__file__).parent / "gone.json").read_text(),
        lambda: (PACKAGE / "silo" / "templates" / "gone").read_text(),
        lambda: os.fstat(12345),
    ],
    ids=["numpy", "int", "remove", "decode", "key", "a library's file", "the package's file", "a closed descriptor"],
)
def test_what_a_library_or_the_interpreter_raises_is_no_sentence(raises):
    with pytest.raises(Exception) as found:
        raises()
    assert sentence_of(found.value) is None


def test_a_path_the_operating_system_refuses_is_told_with_what_it_says(tmp_path):
    with pytest.raises(OSError) as found:
        (tmp_path / "silo.yaml").read_text()
    assert sentence_of(found.value) == f"{tmp_path / 'silo.yaml'}: No such file or directory"
    with pytest.raises(OSError) as found:
        tmp_path.read_text()
    assert sentence_of(found.value) == f"{tmp_path}: Is a directory"


def test_a_full_disk_is_told_and_a_refused_connection_is_not():
    assert sentence_of(OSError(errno.ENOSPC, "No space left on device")).startswith("the disk: No space left")
    assert sentence_of(OSError(errno.ECONNREFUSED, "Connection refused")) is None
    assert sentence_of(OSError("cannot identify image file")) is None


def test_what_a_persons_own_code_says_by_a_value_error_is_meant_for_them():
    with pytest.raises(InputError, match="no column 'age'"), from_their_code():
        raise ValueError("no column 'age'")
    with pytest.raises(KeyError), from_their_code():
        {}["age"]
    with pytest.raises(NotThere), from_their_code():
        raise NotThere("data.csv is missing")


def test_a_sentence_of_this_package_is_raised_as_one():
    """`raise ValueError(...)` would reach people as an internal error; mathematics alone says it of a wrong call."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            call = node.exc if isinstance(node, ast.Raise) else None
            raised = getattr(getattr(call, "func", call), "id", "")
            if raised in ("ValueError", "FileNotFoundError", "FileExistsError", "OSError"):
                found.append(f"{name}:{node.lineno} raises {raised}")
    allowed = {*MATHEMATICS, "events/types.py"}  # events/folder.py says of which line from_dict speaks
    assert [one for one in found if one.partition(":")[0] not in allowed] == []


def test_a_module_of_the_interpreter_is_not_a_file_that_a_person_named():
    missing = str(Path(sys.prefix) / "lib" / "gone.py")
    assert sentence_of(FileNotFoundError(errno.ENOENT, "No such file or directory", missing)) is None
    assert issubclass(UserError, Exception) and not issubclass(UserError, ValueError)
