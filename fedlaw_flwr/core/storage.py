"""Where a matrix lies: in memory, or in a file of which memory holds as much as there is room for."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fedlaw_flwr.core.errors import InputError


def zeros(shape: tuple[int, int], dtype: DTypeLike, folder: str | Path = "") -> NDArray[Any]:
    """A matrix of zeros, in memory or in a file.

    The file has no name, so nothing is left of it when the process ends, however it ends. All its bytes are claimed at
    once, so that a disk that becomes full later cannot end the run (on macOS they are claimed as they are written).
    Numbers are the same as in memory, to the bit.

    Args:
        shape: (n, d).
        dtype: Of its numbers.
        folder: Where the file lies; "": the matrix lies in memory. Default: memory.

    Returns:
        The matrix, (n, d).

    Raises:
        InputError: If the folder is not there, cannot be written to, or has too little room.
    """
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    if not folder or not size:
        return np.zeros(shape, dtype)
    place = Path(folder).expanduser()
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return np.asarray(np.memmap(file, dtype, "r+", shape=shape))
    except OSError as error:
        raise InputError(
            f"matrix-in={str(folder)!r}: no file of {size / 1e6:,.0f} MB can be made there ({error.strerror}); name a "
            "folder of this machine's disk that can be written to, or leave it empty to keep the updates in memory"
        ) from None
