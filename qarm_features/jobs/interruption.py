"""Ctrl-C: one line, exit code 130, and no process that stays behind.

In: the exception that ended a command. Out: whether a person interrupted it, and the line for that person.
"""

from __future__ import annotations

import signal

EXIT_CODE = 128 + signal.SIGINT
LINE = (
    "Interrupted. Run the same command again; it continues where it stopped: finished jobs of qarm run are skipped, and an "
    "alignment goes on from its last checkpoint."
)


def was_interrupted(error: BaseException) -> bool:
    """Returns True if Ctrl-C ended the command, however typer or a library has wrapped it since.

    After that, further Ctrl-Cs are ignored, so that none cuts the ending of the processes short.
    """
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if isinstance(found, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            return True
        seen.add(id(found))
        found = found.__cause__ or found.__context__
    return False
