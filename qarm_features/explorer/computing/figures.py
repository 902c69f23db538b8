"""The figures that were measured of a release, beside those of earlier codebooks.

In: the manifests of codebooks and ranking models, and the JSON files of evaluations. Out: ``contract.Figure`` of each that
was measured. What was not measured is left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from qarm_features.explorer.contract import Figure
from qarm_features.feature_store.views.feature_views import Release
from qarm_features.report.figures import code_evaluations, encoder_evaluation, ranking_results
from qarm_features.report.ranking_rows import ranking_rows
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.objects import AnyPath


class _Value(NamedTuple):
    """A figure of one codebook version.

    Attributes:
        group, name: Its heading and its name.
        value: Its value; None where it was not measured.
        interval: Its interval of 95%; None where it was not measured.
        higher_is_better: None where neither direction is.
        within_encoder: True if it measures codes by the embeddings of their own encoder, so that codebooks over two encoders
            cannot be compared by it.
    """

    group: str
    name: str
    value: float | None
    interval: Sequence[float] | None
    higher_is_better: bool | None
    within_encoder: bool = False


def figures(artifacts: AnyPath, release: Release) -> list[Figure]:
    """Return the figures of a release, each with its value under earlier codebook versions.

    Args:
        artifacts: Folder of all artifacts of the project.
        release: The release.
    """
    codebooks = Artifacts(artifacts, "codebooks")
    manifests = {v: codebooks.get(v).manifest for v in codebooks.versions() if v <= release.codebook_version}
    encoders = {version: _encoder_of(manifest) for version, manifest in manifests.items()}
    encoder = encoders.get(release.codebook_version)
    of_version = {
        version: {(one.group, one.name): one for one in _values(artifacts, version, manifest) if one.value is not None}
        for version, manifest in manifests.items()
    }
    now = of_version.pop(release.codebook_version, {})
    return [
        {
            "group": one.group,
            "name": one.name,
            "value": float(one.value or 0.0),
            "low": one.interval[0] if one.interval else None,
            "high": one.interval[1] if one.interval else None,
            "history": [
                (f"codebooks v{version}", float(values[key].value or 0.0))
                for version, values in of_version.items()
                if key in values and (not one.within_encoder or encoders[version] == encoder)
            ],
            "higher_is_better": one.higher_is_better,
        }
        for key, one in now.items()
    ]


def _encoder_of(manifest: dict[str, Any]) -> tuple[Any, Any]:
    return manifest.get("encoder_version"), manifest.get("encoder_fingerprint")


def _values(artifacts: AnyPath, version: int, manifest: dict[str, Any]) -> Iterator[_Value]:
    for level in manifest.get("levels") or []:
        name = f"relative error after level {level['level'] + 1}"
        yield _Value("codes", name, level.get("relative_error"), None, False, within_encoder=True)
    evaluated = [one for one in code_evaluations(artifacts) if one["codebook_version"] == version]
    for one in evaluated[-1:]:
        yield from _code_values(one)
    yield from _encoder_values(artifacts, manifest.get("encoder_version"))
    yield from _ranking_values(artifacts, version)


def _code_values(measured: dict[str, Any]) -> Iterator[_Value]:
    quality = measured["quality"]
    yield _Value("codes", "share of items that share their semantic ID", quality["collision_rate"], None, False)
    yield _Value("codes", "items of the most frequent semantic ID", quality["largest_bucket"], None, False)
    for level in quality["levels"]:
        usage = level["codes_in_use"] / level["codebook_size"]
        yield _Value("codes", f"share of centroids in use on level {level['level'] + 1}", usage, None, None)
    near = measured["neighborhoods"]
    name = f"overlap of the {near['k']} nearest items by code and by embedding"
    yield _Value("neighbors", f"{name} (Jaccard)", near["jaccard"], None, True, within_encoder=True)
    behavior = measured["behavior"]
    if behavior and {"ties", "popular"} <= behavior.keys():  # others were measured by an earlier release, wrongly
        k, intervals = behavior["k"], behavior["interval"]
        for rate, by in (("hit_rate", "code"), ("hit_rate_embeddings", "embedding")):
            name = f"co-clicks whose target is among the {k} nearest items by {by}"
            yield _Value("neighbors", name, behavior[rate], intervals[rate], True)
        name = f"co-clicks whose target is among the {k} most popular items"
        yield _Value("neighbors", name, behavior["popular"], None, None)
        for prefix in behavior["prefixes"]:
            name = f"co-clicks that share the first {prefix['codes']} codes"
            yield _Value("neighbors", name, prefix["share"], prefix["interval"], True)


def _encoder_values(artifacts: AnyPath, encoder_version: int | None) -> Iterator[_Value]:
    measured = encoder_evaluation(artifacts)
    key = str(encoder_version)
    if measured and key in measured["hit_rate"]:
        name = f"co-clicks whose target is among the {measured['k']} nearest items of the encoder"
        yield _Value("neighbors", name, measured["hit_rate"][key]["all"], measured["interval"][key], True)


def _ranking_values(artifacts: AnyPath, version: int) -> Iterator[_Value]:
    """Yield the metrics of the newest models of each variant, the mean over their seeds."""
    results = ranking_results(artifacts, version)
    for row in ranking_rows(results):
        yield _Value("ranking", f"test AUC, {row.variant}", row.auc, row.interval, True)
        yield _Value("ranking", f"test AUC per user, {row.variant}", row.user_auc, None, True)
        losses = [one["metrics"]["test"].get("log_loss") for one in results if one["variant"] == row.variant]
        known = [loss for loss in losses if loss is not None]
        yield _Value("ranking", f"test log loss, {row.variant}", statistics.mean(known) if known else None, None, False)
        name = f"test AUC, {row.variant} minus {row.against}"
        yield _Value("ranking", name, row.difference, row.difference_interval, True)
