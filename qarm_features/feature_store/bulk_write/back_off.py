"""Trying again after a lost connection or a locked file, with pauses that double."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_log = logging.getLogger(__name__)


def try_again(
    attempt: Callable[[], _Result], *, lost: Callable[[Exception], bool], patience: float, store: str
) -> _Result:
    """Calls ``attempt`` until it returns; it must do no harm to call it twice.

    Args:
        attempt: What to do.
        lost: Whether an error may pass by itself. Any other error is raised at once.
        patience: Seconds after the first failure until giving up.
        store: Name of the store, for the log.

    Raises:
        Exception: What the last attempt raised.
    """
    pause, given_up = _FIRST_PAUSE, None
    while True:
        try:
            return attempt()
        except Exception as error:
            now = time.monotonic()
            given_up = given_up or now + patience
            if not lost(error) or now >= given_up:
                raise
            _log.warning("%s: %s. Trying again in %.2f s.", store, error, pause)
            time.sleep(min(pause, given_up - now))
            pause = min(2 * pause, _LONGEST_PAUSE)
