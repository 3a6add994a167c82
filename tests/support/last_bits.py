"""What a computation gives with several numbers of BLAS threads and its arrays at several places in memory."""

import numpy as np
from threadpoolctl import threadpool_limits

THREADS = (1, 2, 3, 4)


def placed(array, offset):
    """A copy that begins so many bytes behind a multiple of 64."""
    room = np.empty(array.nbytes + 128, np.uint8)
    begin = -room.ctypes.data % 64 + offset
    copy = room[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def outcomes(compute, *arrays):
    """What `compute` gives of these arrays, as bytes, with several numbers of threads and places in memory."""
    found = set()
    for threads in THREADS:
        with threadpool_limits(threads, user_api="blas"):
            for offset in (0, 8, 24):
                found.add(np.asarray(compute(*(placed(array, offset) for array in arrays))).tobytes())
    return found
