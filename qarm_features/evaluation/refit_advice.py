"""Whether a refit pays: the figures of new items, held against the limits of the section ``monitor``.

In: the figures of ``fit_drift`` and ``unseen_items``. Out: one verdict per figure. A limit is passed only where chance does
not explain the difference, so that few new items raise no alarm.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from qarm_features.settings.monitor import Monitor

_CHANCE = 0.01  # a difference with a larger p-value may be chance
_UNSEEN = "share of the log's latest rows whose item has no semantic ID"
_SCORES = "PSI of the latest scores beyond chance"


class Verdict(NamedTuple):
    """A figure and its limit.

    Attributes:
        what: The figure in words.
        value: Its value.
        limit: Its limit, from the settings.
        state: ``ok``, ``past`` its limit, or ``unknown`` where too few rows tell.
        remark: It says what the value rests on, and what to do.
    """

    what: str
    value: float | None
    limit: float
    state: Literal["ok", "past", "unknown"]
    remark: str


def verdicts(
    drift: dict[str, Any], unseen: dict[str, Any] | None, limits: Monitor, scores: dict[str, Any] | None = None
) -> list[Verdict]:
    """Hold the figures against their limits.

    Args:
        drift: Figures of ``fit_drift``.
        unseen: Figures of ``unseen_items``, None for an empty log.
        limits: Section ``monitor`` of the settings.
        scores: Figures of ``score_drift``; None without scores.
    """
    found = [*_of_new_items(drift, limits), _changed_content(drift, limits), _unseen(unseen, limits)]
    return found if limits.scores is None else [*found, _moved_scores(scores, limits)]


def past_limits(found: list[Verdict]) -> list[Verdict]:
    """Return the verdicts that are past their limits."""
    return [one for one in found if one.state == "past"]


def refit_pays(found: list[Verdict]) -> bool:
    """Return True if a figure that a refit mends is past its limit.

    Items without a semantic ID need a run, and scores that moved need somebody who looks why.
    """
    return any(one.what not in (_UNSEEN, _SCORES) for one in past_limits(found))


def _of_new_items(drift: dict[str, Any], limits: Monitor) -> list[Verdict]:
    new, error, cells, ids = (drift[name] for name in ("new_items", "error", "cells", "semantic_ids"))
    names = (
        "error of new items / error of the fit's items",
        "PSI of new items beyond chance",
        "new semantic IDs beyond what is expected",
    )
    bounds = (limits.max_error_ratio, limits.max_psi, limits.max_new_ids)
    if new < limits.min_items or not error or error["ratio"] is None:
        few = f"{new:,} new items, {limits.min_items:,} are needed"
        return [Verdict(name, None, bound, "unknown", few) for name, bound in zip(names, bounds, strict=True)]
    values = (error["ratio"], cells["psi"] - cells["psi_by_chance"], ids["new"] - ids["expected"])
    said = (
        f"relative error {error['of_new']:.3f} and {error['of_fit']:.3f}",
        f"{cells['psi']:.3f}, of which chance gives {cells['psi_by_chance']:.3f}, over {cells['cells']} cells",
        f"{ids['new']:.1%} of new items, expected {ids['expected']:.1%}",
    )
    p_values = (error["p_value"], cells["p_value"], ids["p_value"])
    return [
        Verdict(name, value, bound, "past" if value > bound and p_value < _CHANCE else "ok", f"{remark}; {_p(p_value)}")
        for name, value, bound, remark, p_value in zip(names, values, bounds, said, p_values, strict=True)
    ]


def _changed_content(drift: dict[str, Any], limits: Monitor) -> Verdict:
    """Content that changed keeps its ID, so the error of the fit's own items tells how stale their IDs are."""
    name, bound, error = "error of the fit's items now / at the fit", limits.max_error_ratio, drift["error"]
    if not error or not error["at_fit"]:
        return Verdict(name, None, bound, "unknown", "the codebooks name no error above 0")
    ratio = error["of_fit"] / error["at_fit"]
    remark = f"relative error {error['of_fit']:.3f} and {error['at_fit']:.3f}"
    return Verdict(name, ratio, bound, "past" if ratio > bound else "ok", remark)


def _unseen(unseen: dict[str, Any] | None, limits: Monitor) -> Verdict:
    bound = limits.max_unseen
    if unseen is None or not unseen["rows"]:
        return Verdict(_UNSEEN, None, bound, "unknown", "the log is empty")
    share = unseen["unseen"] / unseen["rows"]
    remark = f"{unseen['unseen']:,} of {unseen['rows']:,} rows since {unseen['since']}"
    if share > bound:
        return Verdict(_UNSEEN, share, bound, "past", f"{remark}. A run gives new items codes: qarm run")
    return Verdict(_UNSEEN, share, bound, "ok", remark)


def _moved_scores(scores: dict[str, Any] | None, limits: Monitor) -> Verdict:
    bound = limits.max_score_psi
    if scores is None or min(scores["rows"].values()) < limits.min_items:
        few = "no row has a score and a time" if scores is None else _score_rows(scores)
        return Verdict(_SCORES, None, bound, "unknown", few)
    value = scores["psi"] - scores["psi_by_chance"]
    medians = f"median {scores['median']['lately']:.4g}, before {scores['median']['before']:.4g}"
    remark = f"{_score_rows(scores)}; {medians}; {_p(scores['p_value'])}"
    if value > bound and scores["p_value"] < _CHANCE:
        return Verdict(
            _SCORES, value, bound, "past", f"{remark}. Look for a new model, a changed feature or other users"
        )
    return Verdict(_SCORES, value, bound, "ok", remark)


def _score_rows(scores: dict[str, Any]) -> str:
    rows, unusable = scores["rows"], scores["unusable"]
    said = f"{rows['lately']:,} scores since {scores['since']} and {rows['before']:,} before"
    return f"{said}, {unusable:,} rows without a score or a time" if unusable else said


def _p(value: float) -> str:
    return f"p {value:.2g}" if value >= 1e-4 else "p below .0001"
