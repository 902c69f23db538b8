"""Retries after a lost connection or a locked file, with pauses that double.

In: a function that may fail. Out: its result, or its last error.
"""

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
    """Call ``attempt`` until it returns.

    Args:
        attempt: Function to call. A second call must have the same effect as one call.
        lost: Returns True for an error that may pass by itself. Any other error is raised at once.
        patience: Seconds after the first failure until the last attempt.
        store: Name of the store, for the log.

    Raises:
        Exception: The error of the last attempt.

    Example:
        >>> answers = iter([ConnectionError("lost"), "done"])
        >>> def attempt():
        ...     answer = next(answers)
        ...     if isinstance(answer, Exception):
        ...         raise answer
        ...     return answer
        >>> try_again(attempt, lost=lambda error: isinstance(error, ConnectionError), patience=1.0, store="Redis")
        'done'
    """
    pause = _FIRST_PAUSE
    deadline: float | None = None
    while True:
        try:
            return attempt()
        except Exception as error:
            now = time.monotonic()
            deadline = deadline or now + patience
            if not lost(error) or now >= deadline:
                raise
            _log.warning("%s: %s. Trying again in %.2f s.", store, error, pause)
            time.sleep(min(pause, deadline - now))
            pause = min(2 * pause, _LONGEST_PAUSE)
