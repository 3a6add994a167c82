"""BLAS in one thread, for products whose last bits must not depend on how many cores there are."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

_LOCK = threading.RLock()  # a limit counts for the whole process: two that overlapped would undo one another


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within it, every BLAS library of this process computes in one thread.

    With several threads a product of matrices is split, and each part is added up in another order. Entering takes
    microseconds; the first time it takes longer, as the BLAS libraries are searched for. Other threads of the
    process that want the same wait for one another.
    """
    with _LOCK, _libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # NumPy's BLAS among them: it was loaded before this is ever called
