"""Calls to a SuperLink that may be away for a while: asked again until it answers or time is up."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

OUTAGE = (httpx.TransportError, ConnectionError, TimeoutError)
"""What a call raises when the SuperLink cannot be reached; nobody's fault among the silos."""

_log = logging.getLogger("flwr")
_T = TypeVar("_T")
_PAUSE = 0.5


def patiently(call: Callable[[], _T], timeout: float) -> _T:
    """call(), again and again while the SuperLink cannot be reached, for at most `timeout` seconds."""
    started = time.monotonic()
    while True:
        try:
            return call()
        except OUTAGE as error:
            if time.monotonic() - started >= timeout:
                raise
            _log.warning("The SuperLink does not answer (%s); asking again", type(error).__name__)
            time.sleep(_PAUSE)
