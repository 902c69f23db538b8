"""Trials of several seeds in, one line per idea and world out: the gain as a share of the possible one, ties called ties."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from .trials import Figures, Trial

# Two-sided 95% quantiles of Student's t for 1, 2, ... degrees of freedom.
_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


def verdict(gains: Sequence[float]) -> str:
    """Says whether paired gains (one per seed) are a "gain", a "loss" or, where their 95% interval holds 0, a "tie"."""
    if len(gains) < 2:
        return "one seed"
    error = statistics.stdev(gains) / math.sqrt(len(gains))
    reach = _T95[min(len(gains) - 1, len(_T95)) - 1] * error
    mean = statistics.mean(gains)
    return "tie" if abs(mean) <= reach else "gain" if mean > 0 else "loss"


def table(trials: Sequence[Trial], *, new_items: bool) -> Iterator[str]:
    """Yields the lines of one table, on test rows of new items or on all.

    Args:
        trials: of all ideas, worlds and seeds.
        new_items: which figures.
    """
    groups: dict[tuple[str, bool], list[Figures]] = {}
    for trial in trials:
        figures = trial.new_items if new_items else trial.all_items
        groups.setdefault((trial.idea, trial.planted), []).append(figures)
    yield "AUC on test rows of " + ("items that are not in the training rows" if new_items else "all items")
    for (idea, planted), figures in groups.items():
        first, last = (list(figures[0].models)[place] for place in (0, -1))
        possible = [figure.ceiling - figure.floor for figure in figures]
        gains = [figure.models[last] - figure.models[first] for figure in figures]
        line = f"  {idea:18} {'planted' if planted else 'control'}  possible {_mean(possible)}  gain {_mean(gains)}"
        if planted:
            share = [gain / best for gain, best in zip(gains, possible)]
            line += f"  share {_mean(share, digits=2)}"
        yield f"{line}  {verdict(gains)}"
        aucs = {name: _mean([figure.models[name] for figure in figures]) for name in figures[0].models}
        best = {f"best {word}": _mean([getattr(figure, field) for figure in figures]) for word, field in _BEST.items()}
        yield "    " + ", ".join(f"{name} {auc}" for name, auc in (best | aucs).items())


def ladder(trials: Sequence[Trial], compared_with: Mapping[str, str], *, new_items: bool) -> Iterator[str]:
    """Yields one line per model of a world where all is planted: AUC, share of the best possible, gain over another.

    Args:
        trials: one per seed.
        compared_with: the name of the model that each is compared with.
        new_items: whether on test rows of new items, or on all.
    """
    figures = [trial.new_items if new_items else trial.all_items for trial in trials]
    best = _mean([figure.ceiling for figure in figures])
    yield f"everything planted, test rows of {'new' if new_items else 'all'} items, best possible AUC {best}"
    for name in figures[0].models:
        aucs = [figure.models[name] for figure in figures]
        share = _mean([(auc - 0.5) / (figure.ceiling - 0.5) for auc, figure in zip(aucs, figures)], digits=2)
        line = f"  {name:20} {_mean(aucs)}, {share} of what is above chance"
        if other := compared_with.get(name):
            gains = [auc - figure.models[other] for auc, figure in zip(aucs, figures)]
            line += f"; over {other.removeprefix('+ ')} {_mean(gains)}, {verdict(gains)}"
        yield line


_BEST = {"without": "floor", "with": "ceiling"}


def _mean(values: Sequence[float], *, digits: int = 4) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}"
