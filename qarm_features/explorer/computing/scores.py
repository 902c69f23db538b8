"""The scores that the newest ranking model of a release gives to impressions.

In: a bounded number of rows of ``training_rows``. Out: each row with the calibrated probability of a positive. Where there is
no model, or torch is not installed, rows have no score.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from qarm_features.feature_store.views.feature_views import Release
from qarm_features.storage.artifacts import Artifact, Artifacts
from qarm_features.storage.objects import AnyPath

if TYPE_CHECKING:
    from qarm_features.ranking.serve.scorer import Scorer

_BATCH = 512  # rows that are scored at once
_log = logging.getLogger(__name__)


class RowScorer:
    """Scores rows by a trained model.

    Args:
        name: Name of the model, for people; "" without a model.
        scorer: The model; None gives no scores.
    """

    def __init__(self, name: str, scorer: Scorer | None) -> None:
        self.name, self._scorer = name, scorer

    def scored(self, rows: DataFrame) -> Iterator[tuple[Any, float | None]]:
        """Yield each row with its score, to six digits, or None.

        Args:
            rows: Rows of ``training_rows``.
        """
        # A Python datetime of Spark has the zone of this machine, which a number has not.
        rows = rows.withColumn("event_timestamp", F.unix_micros("event_timestamp"))
        schema = to_arrow_schema(rows.schema, timezone="UTC")
        stream = rows.toLocalIterator()
        while batch := list(islice(stream, _BATCH)):
            yield from zip(batch, self._scores(batch, schema))

    def _scores(self, batch: list[Any], schema: pa.Schema) -> list[float | None]:
        if self._scorer is None:
            return [None] * len(batch)
        from qarm_features.ranking.data.row_encoding import encode_rows

        scorer, config = self._scorer, self._scorer.model.config
        encoded = encode_rows(
            pa.RecordBatch.from_pylist([row.asDict() for row in batch], schema),
            scorer.vocabulary,
            num_levels=config.num_levels,
            behavior_length=scorer.behavior_length,
            impression_length=scorer.impression_length,
            optional_fields=scorer.model.optional_fields,
        )
        return [round(score, 6) for score in scorer.score_batch(encoded).tolist()]


def no_scores() -> RowScorer:
    """Return what gives no scores."""
    return RowScorer("", None)


def scorer_of(artifacts: AnyPath, release: Release) -> RowScorer | None:
    """Return the newest ranking model that was trained on a release, or None.

    Args:
        artifacts: Folder of all artifacts of the project.
        release: The release.
    """
    model = _newest(Artifacts(artifacts, "ranking_models"), release)
    if model is None:
        return None
    try:
        from qarm_features.ranking.serve.scorer import Scorer

        opened = Scorer.open(model.path)
    except (ImportError, ValueError) as error:  # an explorer without scores is better than none
        _log.warning("WARNING: Candidates have no scores, because %s cannot be used: %s", model.path, error)
        return None
    return RowScorer(f"{model.manifest['variant']} (ranking model v{model.version})", opened)


def _newest(models: Artifacts, release: Release) -> Artifact | None:
    for version in reversed(models.versions()):
        model = models.get(version)
        fingerprints = {model.manifest.get("codebook_fingerprint"), release.codebook_fingerprint, None}
        if model.manifest.get("codebook_version") == release.codebook_version and len(fingerprints) <= 2:
            return model
    return None
