"""What numbers in a column can be: times since 1970 in one of four units, or labels.

In: numbers. Out: the unit, or the lowest label that is positive.
"""

from __future__ import annotations

from collections.abc import Sequence

_FIRST, _LAST = (
    631_152_000,
    4_102_444_800,
)  # 1990 and 2100, as ingest has them: no number is a plausible time in two units
_PER_SECOND = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_MOSTLY = 0.95


def number_of(text: str) -> float | None:
    """Returns the number that a text is, or None. Words such as nan and forms such as 1_000 are no numbers.

    Args:
        text: Text.
    """
    text = text.strip()
    if not text or not set(text) <= set("0123456789+-.eE"):
        return None
    try:
        return float(text)
    except ValueError:
        return None


def time_unit(numbers: Sequence[float]) -> str | None:
    """Returns the unit in which almost all numbers are times from 1990 to 2100, or None.

    Args:
        numbers: Numbers.

    Example:
        >>> time_unit([978300760.0, 978302109.0])
        'seconds'
    """
    for unit, per_second in _PER_SECOND.items():
        fitting = sum(_FIRST * per_second <= number <= _LAST * per_second for number in numbers)
        if numbers and fitting >= _MOSTLY * len(numbers):
            return unit
    return None


def positive_from(labels: Sequence[float]) -> float | None:
    """Returns the lowest label that usually counts as positive, or None where there is no usual one.

    Args:
        labels: Labels.

    Example:
        >>> positive_from([0.0, 1.0]), positive_from([1.0, 3.0, 5.0]), positive_from([2.0, 9.0]), positive_from([12.0, 90.0])
        (1, 4, 8, None)
    """
    highest = max(labels, default=0.0)
    if highest <= 1:
        return 1
    if highest <= 5:
        return 4
    return 8 if highest <= 10 else None
