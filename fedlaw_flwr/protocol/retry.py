"""Calls to a SuperLink that may be away for a while: asked again until it answers or time is up."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

OUTAGE = (httpx.TransportError, ConnectionError, TimeoutError, ObjectPushError)
"""What a call raises when the SuperLink cannot be reached; nobody's fault among the silos.

ObjectPushError: a SuperLink that dies after it stored an object and before it said so refuses that object once back.
Pushed as a whole again, the messages are the same to it, and it asks for the objects it has not.
"""

_log = logging.getLogger("flwr")
_T = TypeVar("_T")
_PAUSE = 0.5


def retried(call: Callable[[], _T], timeout: float) -> _T:
    """The result of call(), which is called again while the SuperLink cannot be reached.

    Args:
        call: What to do; it may be called several times.
        timeout: For how many seconds it is called again.

    Raises:
        OUTAGE: Whichever of these errors the last call raised, if the SuperLink cannot be reached when time is up.
    """
    started = time.monotonic()
    while True:
        try:
            return call()
        except OUTAGE as error:
            if time.monotonic() - started >= timeout:
                raise
            _log.warning("The SuperLink does not answer (%s); asking again", type(error).__name__)
            time.sleep(_PAUSE)
