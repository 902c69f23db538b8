"""The files that were added to a source since it was read, or why it cannot be told that files were added and no more.

In: name, size and time of change of each file at the path of a source, then and now. Out: paths of the files that are new. ::

    then                 now
    a.csv  100  10:00    a.csv  100  10:00   ->  b.csv
                         b.csv   20  11:00
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qarm_features.catalog.reading.some_files import looks_like_pattern, paths_of
from qarm_features.catalog.reading.source_files import is_hidden
from qarm_features.settings.sources import Source

_FILES = ("parquet", "csv", "jsonl")
# Between braces, brackets and in ** Python's patterns and those of Hadoop are two languages.
_OTHER_IN_HADOOP = re.compile(r"[\[\]{}\\]|\*\*")


class NewFiles(NamedTuple):
    """What came to a source.

    Attributes:
        paths: Paths of the new files, in the order of their names.
        fault: Why it cannot be told that these files came and nothing else happened, after the word because; else empty.
    """

    paths: tuple[str, ...] = ()
    fault: str = ""


def new_files(section: str, source: Source, place: str | None, before: Any, now: Any) -> NewFiles:
    """Return the files that are new at a source.

    Args:
        section: Name of the section of the settings.
        source: Source.
        place: Its path, resolved against the folder of the settings. None for a table of Spark's catalog.
        before: State of the source when it was read, as ``states.path_state`` gives it.
        now: Present state.
    """
    kind = source.resolved_format
    if kind not in _FILES or place is None:
        return NewFiles(fault=f"{section} has the format {kind}, which does not tell which rows are new")
    if not isinstance(before, list) or not isinstance(now, list) or not before:
        return NewFiles(fault=f"the files of {section} cannot be listed")
    if not Path(place).exists() and _OTHER_IN_HADOOP.search(place):
        return NewFiles(fault=f"{section}.path is a pattern, whose files only Spark lists")
    known, present = ({str(name): facts for name, *facts in files} for files in (before, now))
    changed = sorted(name for name, facts in known.items() if present.get(name) != facts)
    if changed:
        return NewFiles(fault=_words(section, changed, present))
    # Markers of writers, which are no data; any other hidden file is refused before.
    names = sorted(name for name in present if name not in known and not any(map(is_hidden, Path(name).parts)))
    paths = paths_of(place, names)
    odd = next((path for path in paths if looks_like_pattern(path)), None)
    if odd is not None:
        return NewFiles(fault=f"the path of the new file {odd} looks like a pattern")
    return NewFiles(tuple(paths))


def _words(section: str, changed: Sequence[str], present: dict[str, Any]) -> str:
    gone = [name for name in changed if name not in present]
    what = f"{len(gone):,} files of {section} left" if gone else f"{len(changed):,} files of {section} changed"
    return f"{what}, for example {(gone or changed)[0]}"
