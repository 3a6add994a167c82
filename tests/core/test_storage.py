"""A matrix in a file: its numbers, what is left of it, and folders in which none can be made."""

import errno
import os

import numpy as np
import pytest

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.storage import zeros


def test_a_matrix_in_a_file_keeps_its_numbers_and_leaves_nothing_behind(tmp_path):
    found = zeros((3, 5), np.float32, tmp_path)
    assert found.shape == (3, 5) and found.dtype == np.float32 and not found.any()
    assert isinstance(found.base, np.memmap) and not list(tmp_path.iterdir())
    found[1] = np.arange(5)
    assert found.sum() == 10 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(3, 0), (0, 5)])
def test_an_empty_matrix_needs_no_file(shape, tmp_path):
    assert zeros(shape, np.float32, tmp_path).shape == shape


def test_without_a_folder_it_lies_in_memory():
    assert zeros((3, 5), np.float16).base is None


def test_a_folder_that_is_not_there_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"matrix-in='.*nowhere': no file of 4 MB can be made there \(No such file"):
        zeros((1, 1_000_000), np.float32, tmp_path / "nowhere")


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="macOS claims no room ahead")
def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    def full(file, start, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"no file of 4 MB can be made there \(No space left on device\)"):
        zeros((1, 1_000_000), np.float32, tmp_path)
