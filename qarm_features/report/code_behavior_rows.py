"""Lines about the behavior of users in the table of codes: HitRates and common prefixes, each beside what popularity gives.

In: ``behavior`` of the figures of ``qarm evaluate-codes``. Out: names and values of lines, for the terminal and the report.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_AGAIN = "run qarm evaluate-codes again"
_SLICES = ("head", "torso", "tail", "new", "few", "few triggers", "unseen pairs")


def behavior_lines(behavior: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each line. A name that begins with ``#`` is a heading.

    Figures of an earlier version, which took the order of item IDs for that of clicks or did not measure what popularity
    alone reaches, are not shown.

    Args:
        behavior: Figures of co-clicks, None where there are none.
    """
    yield "#co-clicks: two positives of one user at different moments", ""
    if behavior is None:
        yield "co-clicks", "none"
        return
    if "ties" not in behavior:
        yield "co-clicks", f"measured with ties in the order of item IDs; {_AGAIN}"
        return
    if "popular" not in behavior:
        yield "co-clicks", f"measured without what popularity alone reaches; {_AGAIN}"
        return
    yield "period", f"from {behavior['since'][:16]} on, {behavior['period']}"
    yield "co-clicks", f"{behavior['pairs']:,}"
    yield "positives that share their moment with the one before", _ties(behavior["ties"])
    yield from _lines(behavior, behavior["k"], "")
    yield f"HitRate@{behavior['k']} by chance", number(behavior["chance"])
    yield (
        "#co-clicks by popularity of the target: HitRate by code / by embedding / most popular; first code (as popular)",
        "",
    )
    for name in _SLICES:
        yield f"co-clicks, {name}", _slice(behavior["slices"][name])
    if together := behavior["bought_together"]:
        yield "#bought together: two positives of one user at one moment", ""
        yield "pairs bought together", f"{together['pairs']:,}"
        yield from _lines(together, behavior["k"], ", bought together")


def _lines(figures: dict[str, Any], k: int, of: str) -> Iterator[tuple[str, str]]:
    """Yield the lines that co-clicks and items bought together share."""
    for rate, by in (("hit_rate", "by code"), ("hit_rate_embeddings", "by embedding")):
        yield f"HitRate@{k} {by}{of}", f"{number(figures[rate])}{_interval(figures['interval'][rate], number)}"
        yield f"HitRate@{k} {by}{of}, targets exchanged at random", number(figures["shuffled"][rate])
    yield f"HitRate@{k} of the {k} most popular items for everybody{of}", number(figures["popular"])
    for prefix in figures["prefixes"]:
        name = f"pairs with the same first {prefix['codes']} codes{of}"
        yield name, f"{share(prefix['share'])}{_interval(prefix['interval'], share)}"
        yield f"{name}, targets exchanged (lift)", f"{share(prefix['shuffled'])} ({_lift(prefix['lift'])})"
        reach = _interval(prefix["lift_matched_interval"], _lift)
        as_popular = f"{share(prefix['matched'])} ({_lift(prefix['lift_matched'])}{reach})"
        yield f"{name}, items as popular as the target (lift)", as_popular
    beats, popular = (number(figures[name], 3) for name in ("beats_matched", "popular_beats_matched"))
    yield f"target shares more codes than an item as popular{of} (0.500 by chance)", f"{beats} (popularity: {popular})"


def _slice(figures: dict[str, Any]) -> str:
    rates = " / ".join(number(figures[name]) for name in ("hit_rate", "hit_rate_embeddings", "popular"))
    if not figures["pairs"]:
        return "none"
    return f"{figures['pairs']:,} pairs: {rates}; {share(figures['share'])} ({share(figures['matched'])})"


def _ties(ties: dict[str, int]) -> str:
    return share(ties["tied"] / ties["consecutive"] if ties["consecutive"] else None)


def _interval(bounds: list[float] | None, shown: Any) -> str:
    return f" [{shown(bounds[0])}, {shown(bounds[1])}]" if bounds else ""


def _lift(value: float | None) -> str:
    return "-" if value is None else f"x{value:.2f}"


def number(value: float | None, digits: int = 4) -> str:
    """Return a number as text, a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def share(value: float | None) -> str:
    """Return a share in percent as text, a dash for None."""
    return "-" if value is None else f"{value:.2%}"
