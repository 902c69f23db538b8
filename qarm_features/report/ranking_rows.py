"""The AUCs of ranking models for people: means over seeds, 95% intervals by resampled users, differences between variants.

In: the metrics of ranking models. Out: one row per variant, and a sentence that says what its difference means.
"""

from __future__ import annotations

import statistics
from typing import Any, NamedTuple

import numpy as np

BASELINE = "item IDs"


class RankingRow(NamedTuple):
    """A variant of the ranking model on the test split.

    Attributes:
        variant: Name of the variant.
        seeds: Number of models, each with another seed.
        auc: Mean AUC over the seeds, None if the split has one label only.
        deviation: Standard deviation of the AUC over the seeds, None with one seed.
        interval: 95% interval of the mean AUC by resampled users, None where it was not measured.
        user_auc: Mean AUC per user, over the seeds.
        against: Variant from which this one differs, empty for that variant itself.
        difference: Mean AUC minus that of ``against``, over the seeds that both have.
        difference_interval: Its 95% interval, over the same draws of users for both.
    """

    variant: str
    seeds: int
    auc: float | None
    deviation: float | None
    interval: tuple[float, float] | None
    user_auc: float | None
    against: str
    difference: float | None
    difference_interval: tuple[float, float] | None


def ranking_rows(models: list[dict[str, Any]]) -> list[RankingRow]:
    """Summarize models of one codebook version by variant, the variant that all are compared with first.

    Args:
        models: ``variant``, ``seed`` and ``metrics`` of each model.

    Returns:
        One row per variant. The others are compared with ``BASELINE``, or with the first variant if there is no such one.
    """
    tests = {(model["variant"], model["seed"]): model["metrics"]["test"] for model in models}
    names = list(dict.fromkeys(variant for variant, _ in tests))
    against = BASELINE if BASELINE in names else next(iter(names), "")
    names.sort(key=lambda name: name != against)
    return [_row(name, against, tests) for name in names]


def without_draws(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the models without the AUC of every draw, of which intervals are enough for people.

    Args:
        models: Models with ``metrics``.
    """
    return [{**model, "metrics": {**model["metrics"], "test": _plain(model["metrics"]["test"])}} for model in models]


def difference_in_words(row: RankingRow) -> str:
    """Say what the difference of a variant means, or nothing if there is none.

    Args:
        row: Row of the variant.
    """
    if row.difference is None:
        return ""
    said = f"{row.variant} minus {row.against}: {row.difference:+.4f} AUC"
    if row.difference_interval is None:
        return f"{said}, without an interval: the models were not measured on the same rows of several users."
    low, high = row.difference_interval
    bounds = f"{said}, 95% interval {low:+.4f} to {high:+.4f} over the same resampled users."
    if low <= 0 <= high:
        return f"{bounds} The difference is within its interval: these test users do not show that the two differ."
    return f"{bounds} The interval does not hold 0."


def seeds_in_words(rows: list[RankingRow]) -> str:
    """Say what the intervals do not contain.

    Args:
        rows: All rows.
    """
    alone = [row for row in rows if row.seeds == 1]
    if alone:
        who = "Every variant was" if len(alone) == len(rows) else "Some variants were"
        return (
            f"{who} trained with one seed. The intervals do not contain how far another seed would move the AUC; "
            "ranking.num_seeds trains more."
        )
    return "± is the standard deviation over seeds, which the intervals do not contain."


def _row(name: str, against: str, tests: dict[tuple[str, int], dict[str, Any]]) -> RankingRow:
    own = {seed: test for (variant, seed), test in tests.items() if variant == name}
    other = {seed: test for (variant, seed), test in tests.items() if variant == against}
    aucs = [test["auc"] for test in own.values() if test["auc"] is not None]
    user_aucs = [test["user_auc"] for test in own.values() if test["user_auc"] is not None]
    both = [
        (own[seed], other[seed])
        for seed in own
        if seed in other and None not in (own[seed]["auc"], other[seed]["auc"]) and name != against
    ]
    return RankingRow(
        variant=name,
        seeds=len(own),
        auc=statistics.mean(aucs) if aucs else None,
        deviation=statistics.stdev(aucs) if len(aucs) > 1 else None,
        interval=_interval([_draws(test) for test in own.values()]),
        user_auc=statistics.mean(user_aucs) if user_aucs else None,
        against="" if name == against else against,
        difference=statistics.mean(one["auc"] - two["auc"] for one, two in both) if both else None,
        difference_interval=_interval([_paired(one, two) for one, two in both]),
    )


def _draws(test: dict[str, Any]) -> np.ndarray | None:
    drawn = (test.get("resampled") or {}).get("auc")
    return None if drawn is None else np.array(drawn)


def _paired(one: dict[str, Any], two: dict[str, Any]) -> np.ndarray | None:
    """Return the difference in each draw, None if the draws are not of the same users and rows."""
    first, second = _draws(one), _draws(two)
    if first is None or second is None or one["resampled"]["drawn_from"] != two["resampled"]["drawn_from"]:
        return None
    return np.asarray(first - second)


def _interval(draws: list[np.ndarray | None]) -> tuple[float, float] | None:
    """Return the 95% interval of the mean over models, None if a model has no draws or fewer."""
    found = [one for one in draws if one is not None]
    if not found or len(found) < len(draws) or len({len(one) for one in found}) > 1:
        return None
    low, high = np.quantile(np.mean(found, axis=0), [0.025, 0.975])
    return float(low), float(high)


def _plain(test: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in test.items() if name != "resampled"}
