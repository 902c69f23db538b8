"""What the values of a column look like.

In: the values of a column in a sample. Out: shares and kinds that the guesses are made from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import fmean

from qarm_features.importers.guessing.sample import Sample
from qarm_features.importers.numbers import number_of, time_unit
from qarm_features.importers.printable import printable

_ISO = re.compile(
    r"\d{4}-\d{1,2}-\d{1,2}([T ]\d{1,2}(:\d{1,2}(:\d{1,2}([.]\d{1,9})?)?)?\s?(Z|UTC|GMT|[+-]\d\d:?(\d\d)?)?)?"
)
_OTHER_TIME = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{2,4}([ T,].*)?")
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d{0,17})(\.0+)?")
_IMAGE = re.compile(r".*\.(jpe?g|png|webp|gif|bmp)(\?.*)?", re.IGNORECASE)
_MOSTLY = 0.95


@dataclass(frozen=True)
class Profile:
    """What is known about a column.

    Attributes:
        name: Its name.
        filled: Share of rows with a value.
        unique: Number of different values divided by that of values, from 0 to 1.
        distinct: Number of different values.
        is_whole: Whether the values are whole numbers without leading zeros.
        numbers: The numbers, if almost all values are numbers or booleans; else empty.
        unit: Unit if the values are times that ingest can read, ``timestamp`` for text in ISO 8601 and typed columns.
        is_other_time: Whether the values look like times in a form that ingest cannot read.
        is_text: Whether the values are words: no numbers, times or paths.
        mean_words: Mean number of words of a value.
        mean_length: Mean number of letters of a value.
        is_image: Whether almost all values are names of pictures, or bytes under the name of a picture.
        is_url: Whether almost all values are URLs.
        is_nested: Whether the values are lists, objects or bytes.
        examples: Three different values.
    """

    name: str
    filled: float
    unique: float
    distinct: int
    is_whole: bool
    numbers: tuple[float, ...]
    unit: str | None
    is_other_time: bool
    is_text: bool
    mean_words: float
    mean_length: float
    is_image: bool
    is_url: bool
    is_nested: bool
    examples: tuple[str, ...]


def profile(sample: Sample, name: str) -> Profile:
    """Returns what is known about a column of a sample.

    Args:
        sample: The sample.
        name: Name of the column.
    """
    values = [value for value in sample.columns[name] if value is not None and value.strip()]
    different = dict.fromkeys(values)
    nested = name in sample.lists or name in sample.binary
    kind = sample.typed.get(name)
    numbers = () if nested else _numbers(values)
    unit = _unit(values, numbers, kind) if not nested else None
    share = lambda pattern: sum(pattern.fullmatch(value) is not None for value in values) / max(len(values), 1)  # noqa: E731
    other_time = not nested and not numbers and unit is None and share(_OTHER_TIME) >= _MOSTLY
    image = share(_IMAGE) >= _MOSTLY if values and not nested else False
    url = bool(values) and sum("://" in value for value in values) >= _MOSTLY * len(values)
    return Profile(
        name=name,
        filled=len(values) / max(sample.rows, 1),
        unique=len(different) / max(len(values), 1),
        distinct=len(different),
        is_whole=bool(values) and not nested and share(_WHOLE) == 1.0,
        numbers=numbers,
        unit=unit,
        is_other_time=other_time,
        is_text=bool(values) and name not in sample.binary and not (numbers or unit or other_time or image or url),
        mean_words=fmean(len(value.split()) for value in values) if values else 0.0,
        mean_length=fmean(map(len, values)) if values else 0.0,
        is_image=image,
        is_url=url,
        is_nested=nested,
        examples=tuple(map(printable, list(different)[:3])),
    )


def _numbers(values: list[str]) -> tuple[float, ...]:
    words = {"true": 1.0, "false": 0.0}
    found = [words.get(value.strip().lower(), number_of(value)) for value in values]
    numbers = [number for number in found if number is not None]
    return tuple(numbers) if numbers and len(numbers) >= _MOSTLY * len(values) else ()


def _unit(values: list[str], numbers: tuple[float, ...], kind: str | None) -> str | None:
    if kind == "timestamp":
        return "timestamp"
    if numbers:
        return time_unit(numbers)
    matching = sum(_ISO.fullmatch(value.strip()) is not None for value in values)
    return "timestamp" if values and matching >= _MOSTLY * len(values) else None
