"""What a release was made of: sources, tables, artifacts and the release itself.

In: the tables, the manifests beside the artifacts, and the settings. Out: ``contract.LineageNode`` of each, in the order of
the flow.
"""

from __future__ import annotations

from typing import Any

from qarm_features.explorer.contract import LineageNode
from qarm_features.feature_store.publishing.release_manifest import require_manifest
from qarm_features.feature_store.views.feature_views import Release
from qarm_features.semantic_ids.assign import level_sizes
from qarm_features.settings.load import Settings
from qarm_features.settings.sources import Source
from qarm_features.storage.artifacts import Artifact, Artifacts
from qarm_features.storage.tables import (
    INTERACTIONS,
    ITEM_EMBEDDINGS,
    ITEM_PAIRS,
    ITEM_SEMANTIC_IDS,
    ITEMS,
    TRAINING_ROWS,
    USER_BEHAVIOR,
    Table,
)
from qarm_features.storage.warehouse import Warehouse


def lineage(warehouse: Warehouse, release: Release, *, settings: Settings) -> list[LineageNode]:
    """Return everything that a release was made of, and the ranking models that were trained on it.

    Args:
        warehouse: The tables.
        release: The release.
        settings: Settings of the project.
    """
    found = _Lineage(warehouse)
    artifacts = settings.artifacts_path
    catalog = found.source("your catalog", settings.items)
    log = found.source("your click log", settings.interactions)
    items, interactions = found.table(ITEMS, [*catalog]), found.table(INTERACTIONS, [*log])
    encoder, codebooks = (
        _existing(Artifacts(artifacts, "encoders"), release.encoder_version),
        _existing(Artifacts(artifacts, "codebooks"), release.codebook_version),
    )
    pairs = found.table(ITEM_PAIRS, interactions) if encoder and encoder.manifest.get("aligned") else []
    encoder_names = found.artifact(encoder, [*items, *pairs], _encoder_details)
    embeddings = found.table(ITEM_EMBEDDINGS, [*items, *encoder_names])
    codebook_names = found.artifact(codebooks, embeddings, _codebook_details)
    ids = found.table(ITEM_SEMANTIC_IDS, [*embeddings, *codebook_names], version=release.delta_version)
    behavior = found.table(USER_BEHAVIOR, interactions)
    manifest = require_manifest(settings, release.codebook_version)
    action = manifest.published
    name = found.add(
        release.view_name, "release", release.codebook_version, None if action is None else action.at, [*ids, *behavior],
        {"rows": f"{release.rows:,}", "state": manifest.state} | ({} if action is None else {"by": action.by}),
    )  # fmt: skip
    rows = found.table(TRAINING_ROWS, [*name, *interactions])
    models = Artifacts(artifacts, "ranking_models")
    for version in models.versions():
        model = models.get(version)
        if model.manifest.get("codebook_version") == release.codebook_version:
            found.artifact(model, rows, _model_details)
    return found.nodes


class _Lineage:
    """Collects nodes; each method returns the names of what it added, none if the thing does not exist."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self.nodes: list[LineageNode] = []

    def add(
        self,
        name: str,
        kind: str,
        version: int | None,
        made_at: str | None,
        made_of: list[str],
        details: dict[str, str],
    ) -> list[str]:
        self.nodes.append(
            {
                "name": name,
                "kind": kind,
                "version": version,
                "made_at": made_at,
                "made_of": made_of,
                "details": details,
            }
        )
        return [name]

    def source(self, name: str, source: Source) -> list[str]:
        place = source.path or source.table or ""
        return self.add(name, "source", None, None, [], {"place": place, "format": source.resolved_format})

    def table(self, table: Table, made_of: list[str], *, version: int | None = None) -> list[str]:
        if not self._warehouse.exists(table):
            return []
        version = self._warehouse.data_version(table) if version is None else version
        moment = None if version is None else self._warehouse.written_at(table, version)
        made_at = None if moment is None else moment.isoformat(timespec="seconds")
        return self.add(table.name, "table", version, made_at, made_of, {"written by": f"qarm {table.written_by}"})

    def artifact(self, artifact: Artifact | None, made_of: list[str], details: Any) -> list[str]:
        if artifact is None:
            return []
        name = f"{artifact.kind.replace('_', ' ')} v{artifact.version}"
        facts = {"fingerprint": artifact.fingerprint, **details(artifact.manifest)}
        made_at = artifact.written_at.isoformat()
        return self.add(name, "artifact", artifact.version, made_at, made_of, facts)


def _existing(artifacts: Artifacts, version: int) -> Artifact | None:
    return artifacts.get(version) if version in artifacts.versions() else None


def _encoder_details(manifest: dict[str, Any]) -> dict[str, str]:
    modalities = (manifest.get("config") or {}).get("modalities") or {}
    backbones = [f"{name}: {part.get('backbone', 'none')}" for name, part in modalities.items()]
    return {
        "aligned": "yes" if manifest.get("aligned") else "no",
        "dimension": str(manifest.get("dim", "unknown")),
        "backbones": ", ".join(backbones),
    }


def _codebook_details(manifest: dict[str, Any]) -> dict[str, str]:
    facts = {"centroids": " x ".join(map(str, level_sizes(manifest))), "seed": str(manifest.get("seed", "unknown"))}
    levels = manifest.get("levels") or []
    if levels:
        facts["relative error"] = f"{levels[-1]['relative_error']:.3f}"
    return facts


def _model_details(manifest: dict[str, Any]) -> dict[str, str]:
    auc = manifest["metrics"]["test"]["auc"]
    shown = "unknown" if auc is None else f"{auc:.4f}"
    return {"variant": manifest["variant"], "seed": str(manifest["seed"]), "test AUC": shown}
