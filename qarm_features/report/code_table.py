"""The table of ``qarm evaluate-codes``: the figures of one codebook version, or of several side by side.

In: figures from ``qarm_features.evaluation.codes``. Out: one table of the rich library, co-clicks first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from qarm_features.report.code_behavior_rows import behavior_lines, number, share
from qarm_features.terminal import lines_of, literal

_NAMES = {
    "collision_rate": "items that share their ID with another",
    "unique_share": "items with a unique ID",
}


def code_table(versions: list[dict[str, Any]]) -> Table:
    """Make a table with one column for each codebook version. The versions may differ in their shapes.

    Args:
        versions: Figures of each version.
    """
    title = "quality of semantic IDs (co-clicks come first, because balance alone does not predict ranking quality)"
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("figure")
    for figures in versions:
        made_from = f"{_shape(figures)}, encoder v{figures['encoder_version']}"
        table.add_column(Text(lines_of(f"codebooks v{figures['codebook_version']}\n{made_from}")), justify="right")
    found = [dict(code_lines(figures)) for figures in versions]
    for name in dict.fromkeys(name for lines in found for name in lines):
        if name.startswith("#"):
            table.add_row(literal(name[1:], "bold"))
        else:
            table.add_row(*map(literal, (name, *[lines.get(name, "-") for lines in found])))
    return table


def _shape(figures: dict[str, Any]) -> str:
    sizes = [level["codebook_size"] for level in figures["quality"]["levels"]]
    return f"{len(sizes)} x {sizes[0]}" if len(set(sizes)) == 1 else " x ".join(map(str, sizes))


def code_lines(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each line. A name that begins with ``#`` is a heading.

    Args:
        figures: Figures of one codebook version.
    """
    yield from behavior_lines(figures["behavior"])
    near = figures["neighborhoods"]
    yield "#nearest items by code compared with nearest items by embedding", ""
    yield "sampled items / all items", f"{near['queries']:,} / {figures['items']:,}"
    yield f"Jaccard@{near['k']}", number(near["jaccard"])
    yield f"rank-biased overlap@{near['k']}", number(near["rank_biased_overlap"])
    if shared := figures.get("shared"):
        yield "#stability", ""
        yield f"same ID as under v{shared['version']}", f"{shared['semantic_ids']:.1%} of {shared['items']:,}"
        for level, kept in enumerate(shared["levels"]):
            yield f"same code, level {level}", f"{kept:.1%}"
    yield "#mean squared error after each level (relative error; error weighted by clicks)", ""
    for level, weighted in zip(figures["errors"]["levels"], figures["errors"]["levels_weighted"]):
        shown = f"{number(level['error'])} ({number(level['relative_error'])}; {number(weighted['error'])})"
        yield f"error, level {level['level']}", shown
        yield f"explained variance, level {level['level']}", number(level["explained_variance"])
    plain, weighted = figures["quality"], figures["quality_weighted"]
    yield "#collisions (weighted by clicks)", ""
    for name, shown in _NAMES.items():
        yield shown, f"{share(plain[name])} ({share(weighted[name])})"
    yield "largest bucket", f"{plain['largest_bucket']:,} items"
    yield "#balance (weighted by clicks)", ""
    for level, by_clicks in zip(plain["levels"], weighted["levels"]):
        name_of_level = f"level {level['level']}"
        yield f"codes in use, {name_of_level}", f"{level['codes_in_use']:,} of {level['codebook_size']:,}"
        for name in ("entropy", "perplexity", "gini"):
            yield f"{name}, {name_of_level}", f"{number(level[name], 3)} ({number(by_clicks[name], 3)})"
