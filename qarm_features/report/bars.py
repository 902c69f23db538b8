"""Bar charts as plain numbers, which the template of the report draws as inline SVG.

In: names and values. Out: places and sizes of bars in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_LABEL_WIDTH, _BAR_WIDTH, _NUMBER_WIDTH, _ROW_HEIGHT = 90, 300, 70, 24


class Bar(NamedTuple):
    """A horizontal bar.

    Attributes:
        name: Name at its left.
        shown: Value as text, at its right.
        y: Distance of its row from the top, in pixels.
        width: Its width in pixels.
    """

    name: str
    shown: str
    y: int
    width: float


class BarChart(NamedTuple):
    """A chart of horizontal bars.

    Attributes:
        title: What the bars show.
        bars: The bars, from the top.
        left: Where bars begin, in pixels.
        width: Width of the chart in pixels.
        height: Height of the chart in pixels.
    """

    title: str
    bars: list[Bar]
    left: int
    width: int
    height: int


def bar_chart(
    title: str, names: Sequence[str], values: Sequence[float], *, shown: Sequence[str], full: float | None = None
) -> BarChart:
    """Place the bars of a chart.

    Args:
        title: What the bars show.
        names: Name of each bar.
        values: Value of each bar, at least 0.
        shown: Each value as text.
        full: Value of a bar of full width; None for the largest value.

    Example:
        >>> [bar.width for bar in bar_chart("", ["a", "b"], [1.0, 4.0], shown=["1", "4"]).bars]
        [75.0, 300.0]
    """
    most = max([*values, 0.0]) if full is None else full
    bars = [
        Bar(name, text, number * _ROW_HEIGHT, round(_BAR_WIDTH * value / most, 1) if most else 0.0)
        for number, (name, value, text) in enumerate(zip(names, values, shown, strict=True))
    ]
    width = _LABEL_WIDTH + _BAR_WIDTH + _NUMBER_WIDTH
    return BarChart(title, bars, _LABEL_WIDTH, width, max(1, len(bars)) * _ROW_HEIGHT)
