"""Files that are whole or not there, and a folder that one process at a time may write."""

import errno
import hashlib
import multiprocessing
import os
import signal

import pytest

from fedlaw_flwr.core import durable
from fedlaw_flwr.core.durable import Appended, InUse, Lock, remove, write_whole


class Failing:
    """Stands in for `os`: this function fails, as the operating system would."""

    def __init__(self, name, code):
        self._name, self._code = name, code

    def __getattr__(self, name):
        if name != self._name:
            return getattr(os, name)

        def fail(*arguments):
            raise OSError(self._code, os.strerror(self._code))

        return fail


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_file_that_cannot_be_written_is_as_it_was_and_the_error_names_it(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    write_whole(path, b"before")
    monkeypatch.setattr(durable, "os", Failing(step, errno.ENOSPC))
    with pytest.raises(OSError) as full:
        write_whole(path, b"after")
    assert full.value.filename == str(path) and full.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_a_piece_for_which_there_is_no_room_leaves_nothing_in_the_file(tmp_path, monkeypatch):
    file = Appended(tmp_path / "file")
    file.append(b"one\n")

    class Half(Failing):
        def write(self, handle, content):
            if len(content) == 4:
                return os.write(handle, content[:2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(durable, "os", Half("", 0))
        with pytest.raises(OSError, match="No space left"):
            file.append(b"two\n")
    file.append(b"three\n")
    assert (tmp_path / "file").read_bytes() == b"one\nthree\n"
    assert (file.size, file.digest) == (10, hashlib.sha256(b"one\nthree\n").hexdigest())
    file.close()


def test_a_file_that_is_appended_to_again_has_the_digest_of_all_of_it(tmp_path):
    (tmp_path / "file").write_bytes(b"one\n")
    file = Appended(tmp_path / "file")
    file.append(b"two\n")
    assert file.digest == hashlib.sha256(b"one\ntwo\n").hexdigest()
    file.close()


def test_what_is_not_there_needs_no_removal(tmp_path):
    remove(tmp_path / "nothing")
    assert not list(tmp_path.iterdir())


def _hold(folder, ready):
    Lock(folder, "the run")
    ready.set()
    signal.pause()


def test_a_lock_goes_with_its_process_however_that_ends(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(60)
    with pytest.raises(InUse, match="another process is writing the run"):
        Lock(tmp_path, "the run")
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    lock = Lock(tmp_path, "the run")
    lock.release()
    Lock(tmp_path, "the run").release()
