"""Trials of several seeds become one line for each idea and world, with the gain as a share of the possible gain."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from .ideas import Idea
from .trials import Figures, Trial

# Two-sided 95% quantiles of Student's t for 1, 2, ... degrees of freedom.
_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


def verdict(gains: Sequence[float]) -> str:
    """Return "gain" or "loss" for paired gains, one per seed, or "tie" if their 95% interval holds 0."""
    if len(gains) < 2:
        return "one seed"
    error = statistics.stdev(gains) / math.sqrt(len(gains))
    reach = _T95[min(len(gains) - 1, len(_T95)) - 1] * error
    mean = statistics.mean(gains)
    return "tie" if abs(mean) <= reach else "gain" if mean > 0 else "loss"


def best(figures: Sequence[Figures], names: Sequence[str]) -> str:
    """Return the name of the model with the highest mean AUC on valid rows, over seeds."""
    return max(names, key=lambda name: statistics.mean(figure.valid[name] for figure in figures))


def table(trials: Sequence[Trial], ideas: Sequence[Idea], *, new_items: bool) -> Iterator[str]:
    """Yield the lines of one table.

    Args:
        trials: Trials of all ideas, worlds and seeds.
        ideas: The ideas, which say what models are without them.
        new_items: Use the test rows of new items if True, all test rows if False.
    """
    models_of = {idea.name: idea.models for idea in ideas}
    groups: dict[tuple[str, bool], list[Figures]] = {}
    for trial in trials:
        figures = trial.new_items if new_items else trial.all_items
        groups.setdefault((trial.idea, trial.planted), []).append(figures)
    yield "AUC on test rows of " + ("items that are not in the training rows" if new_items else "all items")
    for (idea, planted), figures in groups.items():
        names = [[model.name for model in models_of[idea] if model.has_idea is has] for has in (False, True)]
        base, chosen = (best(figures, of_kind) for of_kind in names)
        possible = [figure.ceiling - figure.models[base] for figure in figures]
        gains = [figure.models[chosen] - figure.models[base] for figure in figures]
        line = f"  {idea:18} {'planted' if planted else 'control'}  {chosen}, over {base}: gain {_mean(gains)}"
        line += f"  possible {_mean(possible)}"
        if planted:
            share = statistics.mean(gains) / statistics.mean(possible)
            line += f"  share {share:.2f}"
        yield f"{line}  {verdict(gains)}"
        aucs = {name: _mean([figure.models[name] for figure in figures]) for name in figures[0].models}
        shown = {"best possible": _mean([figure.ceiling for figure in figures])} | aucs
        yield "    " + ", ".join(f"{name} {auc}" for name, auc in shown.items())


def ladder(trials: Sequence[Trial], compared_with: Mapping[str, str], *, new_items: bool) -> Iterator[str]:
    """Yield one line for each model of the world with all effects: AUC, share of the best possible AUC, gain.

    Args:
        trials: Trials, one per seed.
        compared_with: For the name of each model, the name of the model that it is compared with.
        new_items: Use the test rows of new items if True, all test rows if False.
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


def _mean(values: Sequence[float], *, digits: int = 4) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}"
